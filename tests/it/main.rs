//! One test binary: `page` needs no privileges, `kernel` needs root and runs here and in virtual machines.

mod kernel;
