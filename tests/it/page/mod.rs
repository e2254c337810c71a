//! The binary as its users meet it: the endpoint, real readers of its pages, and the command line.

mod alerts;
mod bad_targets;
mod browser;
mod command_line;
mod dashboards;
mod differential;
mod endpoint;
mod offline;
mod parts;
mod prometheus;
mod queries;
mod readers;
mod recorded;
mod relabel;
mod relay;
mod reload;
mod remote_write;
mod systemd;
mod top;
mod troubleshooting;
mod web;
