//! What is measured, and about whom; never which labels that becomes.

pub mod host;
