-- SPDX-License-Identifier: BSD-2-Clause
--
-- "did you mean": the word that somebody may have wanted to write.
local M = {}

local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local above = row[j]
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(above + 1, row[j - 1] + 1, diagonal + cost)
      diagonal = above
    end
  end
  return row[#b]
end

--- near(word, candidates) -> '; did you mean "x"?' or "". candidates has the words as keys.
function M.near(word, candidates)
  local best, least = nil, 3
  for candidate in pairs(candidates) do
    local far = distance(word, candidate)
    if far < least or (far == least and best and candidate < best) then best, least = candidate, far end
  end
  return best and ("; did you mean %q?"):format(best) or ""
end

return M
