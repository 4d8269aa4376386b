<?php
// SPDX-License-Identifier: BSD-2-Clause

error_reporting(E_ALL);
require __DIR__ . '/../autoload.php';
require __DIR__ . '/FakeNode.php';
