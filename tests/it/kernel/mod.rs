//! Tests against the running kernel, here and in virtual machines; each needs root and skips with a printed reason.

mod cpu_throttle;
