//! The table of what was measured: Markdown that goes into docs/overhead.md as it is.

use super::{EMPTY, LARGE, Measured, USUAL, heap::Heap};

/// Bytes of a pod beyond its labels.
const MAX_BYTES_PER_POD: f64 = 2048.0;

/// What "nothing" is: less than a byte for each object even of a cluster that could be filled only by a tenth. Buffers of
/// connections and the allocator's pages come and go by as much.
const MAX_HEAP_GROWTH: f64 = 16.0 * 1024.0;
const MAX_RSS_GROWTH: f64 = 512.0 * 1024.0;

struct Row {
    what: String,
    measured: String,
    /// The limit, and whether it is kept.
    limit: Option<(String, bool)>,
}

/// The whole table.
pub(crate) fn of(measured: &Measured) -> String {
    let filled = &measured.filled;
    let head = format!(
        "filled with {} ReplicaSets and {} Deployments in {:.0} s\n\n| what | measured | limit | |\n|---|---|---|---|\n",
        filled.n_replica_sets,
        filled.n_deployments,
        filled.time.as_secs_f64()
    );
    let line = |Row { what, measured, limit }| {
        let (limit, verdict) = match limit {
            Some((limit, true)) => (limit, "OK"),
            Some((limit, false)) => (limit, "MISSED"),
            None => (String::new(), ""),
        };
        format!("| {what} | {measured} | {limit} | {verdict} |\n")
    };
    head + &rows(measured).into_iter().map(line).collect::<String>()
}

/// Whether every limit is kept.
pub(crate) fn is_kept(measured: &Measured) -> bool {
    rows(measured).iter().all(|row| row.limit.as_ref().is_none_or(|(_, is_kept)| *is_kept))
}

fn rows(measured: &Measured) -> Vec<Row> {
    let [before, after] = &measured.names;
    let mut rows = Vec::new();
    rows.push(per_pod("its names and labels", before, Some(MAX_BYTES_PER_POD)));
    rows.push(per_pod("names, labels and state (`kube_pod_…`)", &measured.with_state, None));
    for ((_, n_pods), heap) in [EMPTY, USUAL, LARGE].into_iter().zip(before) {
        rows.push(Row {
            what: format!("heap for {n_pods} pods in all, buffers of connections included"),
            measured: format!("{} kB", heap.n_bytes / 1024),
            limit: None,
        });
    }
    let [_, usual_before, _] = before;
    let [_, usual_after, _] = after;
    let growth = usual_after.n_bytes as f64 - usual_before.n_bytes as f64;
    rows.push(Row {
        what: "heap for 110 pods, the cluster full, of that before".into(),
        measured: format!("{growth:+} B of {} B", usual_before.n_bytes),
        limit: Some((format!("{MAX_HEAP_GROWTH} B more"), growth <= MAX_HEAP_GROWTH)),
    });
    rows.extend(resident(measured));
    let requests = measured.requests;
    rows.push(Row {
        what: "requests of the node with 110 pods".into(),
        measured: format!(
            "{} lists, {} watches, {} reads; {} errors",
            requests.lists, requests.watches, requests.gets, requests.errors
        ),
        limit: None,
    });
    rows.push(Row {
        what: "lists and watches of ReplicaSets and Deployments, by the server's count".into(),
        measured: measured.n_cluster_wide.to_string(),
        limit: Some(("0".into(), measured.n_cluster_wide < 1.0)),
    });
    rows
}

/// What each pod costs, by the difference of two nodes that have as many connections.
fn per_pod(what: &str, [_, usual, large]: &[Heap; 3], limit: Option<f64>) -> Row {
    let n_more = (LARGE.1 - USUAL.1) as f64;
    let n_labels = (large.n_label_bytes as f64 - usual.n_label_bytes as f64) / n_more;
    let beyond = (large.n_bytes as f64 - usual.n_bytes as f64) / n_more - n_labels;
    Row {
        what: format!("heap for each pod from the 111th to the 1,100th: {what}"),
        measured: format!("{beyond:.0} B beyond {n_labels:.0} B of labels"),
        limit: limit.map(|limit| (format!("{limit} B"), beyond <= limit)),
    }
}

/// The rows about RSS.
fn resident(measured: &Measured) -> Vec<Row> {
    let nodes = [
        (USUAL.1, measured.usual, measured.usual_anew),
        (EMPTY.1, measured.empty, measured.empty_anew),
    ];
    let mut rows = Vec::new();
    for (n_pods, [before, after], anew) in nodes {
        for (case, bytes) in [("the same process", after), ("a new process", anew)] {
            let growth = bytes as f64 - before as f64;
            rows.push(Row {
                what: format!("RSS with {n_pods} pods before, and the cluster full: {case}"),
                measured: format!("{} -> {} kB", before / 1024, bytes / 1024),
                limit: Some((
                    format!("{} kB more", MAX_RSS_GROWTH / 1024.0),
                    growth <= MAX_RSS_GROWTH,
                )),
            });
        }
    }
    rows
}
