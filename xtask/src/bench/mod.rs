//! `cargo xtask bench`: what the exporter costs on this machine.

mod attribution;
mod cgroups;
mod exporter;
mod limits;
mod load;
mod measured;
mod pace;
mod peers;
mod probes;
mod relay;

use anyhow::Result;

/// What is measured; without a part, the limits that the exporter keeps.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Measure what each probe costs per event, and how much it slows down what causes the events.
    Probes(probes::Options),
    /// Measure what it costs to know the pods, in a cluster full of objects.
    Attribution(attribution::Options),
    /// Measure what relaying a full cadvisor page costs, against vmagent and Prometheus.
    Relay(relay::Options),
    /// Measure Podmeter and its peers on equal work, for nodes of 10, 110 and 250 pods.
    Peers(peers::Options),
    /// Be one of the loads of `probes`, and print how often it was done per second.
    #[command(hide = true)]
    Load(load::Options),
    /// Be the floor of `relay`: fetch a page when asked, and give the same bytes away.
    #[command(hide = true)]
    Copier(relay::copier::Options),
}

/// `cargo xtask bench`.
pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.part {
        None => limits::run(),
        Some(Part::Probes(options)) => probes::run(options),
        Some(Part::Attribution(options)) => attribution::run(options),
        Some(Part::Relay(options)) => relay::run(options),
        Some(Part::Peers(options)) => peers::run(options),
        Some(Part::Load(options)) => load::run(options),
        Some(Part::Copier(options)) => relay::copier::run(options),
    }
}
