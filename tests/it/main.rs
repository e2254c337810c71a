//! One test binary: `page` and `docs` need no privileges, `kernel` needs root and runs here and in virtual machines.

mod docs;
mod kernel;
mod page;
