/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The limits of servants and methods as calls meet them: passed before a call has a task, left when it is answered. Only
 * methods that have one come here.
 */
#include <string.h>

#include "base/clock.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define RETRY_MS 100 /* told to calls that find a gate full */

static const struct {
    enum fae_err full, too_fast;
    enum fae_limit full_limit, too_fast_limit;
} refusals[2] = {
    { FAE_SERVANT_OVERLOAD, FAE_SERVANT_RATE_LIMITED, FAE_LIMIT_servant_calls, FAE_LIMIT_servant_rate },
    { FAE_METHOD_OVERLOAD, FAE_METHOD_RATE_LIMITED, FAE_LIMIT_method_calls, FAE_LIMIT_method_rate },
};

static enum fae_gate_answer pass(struct fae_vm *vm, const struct fae_method *method, unsigned which,
                                 uint32_t *after_ms_out)
{
    const struct fae_gate_rule *rule = &method->rules[which];

    if (method->gates[which] < 0)
        return FAE_GATE_OPEN;
    return fae_gate_enter(vm->o.gates, method->gates[which], rule, vm->o.slot, vm->o.slots->n_workers,
                          rule->step_ns ? fae_now_ns() : 0, after_ms_out);
}

static void leave(struct fae_vm *vm, const int16_t *gates)
{
    for (unsigned i = 0; i < 2; i++)
        if (gates[i] >= 0)
            fae_gate_leave(vm->o.gates, gates[i], vm->o.slot);
}

bool fae_gates_pass(struct fae_vm *vm, struct fae_session *session, const struct fae_request *req,
                    const struct fae_method *method)
{
    for (unsigned i = 0; i < 2; i++) {
        uint32_t after_ms = RETRY_MS;
        enum fae_gate_answer answer = pass(vm, method, i, &after_ms);

        if (answer == FAE_GATE_OPEN)
            continue;
        if (i == 1 && method->gates[0] >= 0)
            fae_gate_undo(vm->o.gates, method->gates[0], &method->rules[0], vm->o.slot);
        if (answer == FAE_GATE_FULL)
            fae_session_refuse(session, req, refusals[i].full, refusals[i].full_limit, after_ms);
        else
            fae_session_refuse(session, req, refusals[i].too_fast, refusals[i].too_fast_limit, after_ms);
        return false;
    }
    vm->entered = method;
    return true;
}

void fae_gates_undo(struct fae_vm *vm)
{
    if (vm->entered)
        leave(vm, vm->entered->gates);
    vm->entered = NULL;
}

void fae_gates_own(struct fae_task *task)
{
    struct fae_vm *vm = task->vm;

    task->limited = true;
    memcpy(task->gates, vm->entered->gates, sizeof task->gates);
    vm->entered = NULL;
}

void fae_gates_leave(struct fae_task *task)
{
    task->limited = false;
    leave(task->vm, task->gates);
}
