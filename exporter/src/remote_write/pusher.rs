//! Collects at fixed instants, and gives each page to all receivers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet, time};
use tracing::error;

use super::{
    delivery::now,
    endpoint::{Endpoint, Push},
    instants::{Instants, Milliseconds},
};
use crate::{
    agent::{Agent, ScrapeRequest},
    demand::Demand,
    error_chain::one_line,
    page::Page,
};

/// How long the last collection may take when Podmeter stops.
const LAST_COLLECTION: Duration = Duration::from_secs(3);
/// How long sending what is left may take then, the last collection included: half of what Kubernetes gives a pod.
const LAST_SENDING: Duration = Duration::from_secs(15);
/// A collection that is so late, as a part of the interval, is left out: its time would not be its own.
const LATE_PART: u32 = 4;

/// What is pushed, and to whom.
#[derive(Clone, Debug)]
pub struct Pushing {
    /// How often is collected.
    pub interval: Duration,
    /// The name of this node.
    pub node_name: String,
    /// The receivers.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// Pushes until `stop` says so, then collects once more and sends what is left.
pub async fn run(agent: Arc<Agent>, mut stop: watch::Receiver<bool>) {
    let mut reloads = agent.reloads();
    let mut last: Option<(Instants, Milliseconds)> = None;
    loop {
        reloads.borrow_and_update();
        let pushing = agent.pushing();
        let instants = Instants::new(pushing.interval, &pushing.node_name);
        let last_instant = last.filter(|(known, _)| *known == instants).map(|(_, last)| last);
        let next = next_instant(instants, last_instant, pushing.interval);
        let wait = if pushing.endpoints.is_empty() { Duration::MAX } else { until(next) };
        tokio::select! {
            _ = stop.wait_for(|is_stopping| *is_stopping) => break,
            _ = reloads.changed() => continue,
            () = time::sleep(wait) => {}
        }
        let late = Duration::from_millis(u64::try_from(now() - next).unwrap_or_default());
        if now() < next || late > pushing.interval / LATE_PART {
            // The clock was set, or this process did not run.
            last = last.or(Some((instants, next - 1)));
            continue;
        }
        if let Some(last) = last_instant {
            let n_skipped = instants.between(last, next);
            pushing.endpoints.iter().for_each(|endpoint| endpoint.note_skipped(n_skipped));
        }
        last = Some((instants, next));
        let left = until(instants.after(next)).min(pushing.interval);
        let push = |page| Push { page, instant: next, next: Some(left) };
        collect(&agent, &pushing, pushing.interval, push).await;
    }
    let deadline = Instant::now() + LAST_SENDING;
    let pushing = agent.pushing();
    let instant = now();
    if !pushing.endpoints.is_empty() && last.is_none_or(|(_, last)| instant > last) {
        let push = |page| Push { page, instant, next: None };
        collect(&agent, &pushing, LAST_COLLECTION, push).await;
    }
    close(pushing.endpoints, deadline).await;
}

/// The first instant that is not over; one that was taken is not taken again, unless the clock was set far back.
fn next_instant(
    instants: Instants,
    last: Option<Milliseconds>,
    interval: Duration,
) -> Milliseconds {
    let now = now();
    let interval = Milliseconds::try_from(interval.as_millis()).unwrap_or(Milliseconds::MAX);
    match last {
        Some(last) if last <= now.saturating_add(interval) => instants.after(now.max(last)),
        Some(_) | None => instants.after(now),
    }
}

/// How long it is until then, rounded up.
fn until(instant: Milliseconds) -> Duration {
    Duration::from_millis(u64::try_from(instant.saturating_sub(now())).unwrap_or_default())
}

async fn collect(
    agent: &Arc<Agent>,
    pushing: &Pushing,
    time_limit: Duration,
    push: impl Fn(Arc<Page>) -> Push,
) {
    let limit = Some(time_limit.min(ScrapeRequest::whole().time_limit));
    let page = match agent.scrape(ScrapeRequest::part(Demand::default(), limit)).await {
        Ok(page) => page,
        Err(failure) => {
            error!(error = one_line(&failure), "a page was not collected, and is not pushed");
            return;
        }
    };
    let mut pushes = JoinSet::new();
    for endpoint in &pushing.endpoints {
        pushes.spawn(give(Arc::clone(agent), Arc::clone(endpoint), push(Arc::clone(&page))));
    }
    while let Some(ended) = pushes.join_next().await {
        if let Err(failure) = ended {
            error!(error = %failure, "pushing ended early, which is a bug");
        }
    }
}

/// Gives a page to a receiver, or to the one that a reload has put in its place since the page was begun.
async fn give(agent: Arc<Agent>, mut endpoint: Arc<Endpoint>, push: Push) {
    while !Arc::clone(&endpoint).push(push.clone()).await {
        let name = &endpoint.config().name;
        let successor =
            agent.pushing().endpoints.into_iter().find(|one| one.config().name == *name);
        match successor {
            Some(successor) if !Arc::ptr_eq(&successor, &endpoint) => endpoint = successor,
            Some(_) | None => return,
        }
    }
}

/// Sends what is left.
async fn close(endpoints: Vec<Arc<Endpoint>>, deadline: Instant) {
    let mut closing: JoinSet<()> =
        endpoints.into_iter().map(|endpoint| endpoint.close(deadline)).collect();
    while let Some(closed) = closing.join_next().await {
        if let Err(failure) = closed {
            error!(error = %failure, "closing ended early, which is a bug");
        }
    }
}
