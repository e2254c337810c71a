//! Pages of other exporters on this node: what came, as bytes and ranges, nothing understood yet.

pub mod client;
pub mod exposition;
