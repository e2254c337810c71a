//! The front door for people who build Podmeter.

fn main() {}
