//! Names, types and meanings of the self-metrics.

use super::{kubernetes, remote_write, targets};
use crate::metric::{Desc, Kind};

/// Every self-metric, in the order of the documentation.
pub const METRICS: &[&Desc] = &[
    &BUILD_INFO,
    &CONFIG_SUCCESSFUL,
    &CONFIG_TIME,
    &SECOND_INSTANCE,
    &LOG_LINES_DROPPED,
    &SOURCE_DURATION,
    &SOURCE_SUCCESS,
    &SOURCE_READ_FAILURES,
    &PROBE_ATTACHED,
    &PROBE_MAP_ENTRIES,
    &PROBE_MAP_CAPACITY,
    &PROBE_SKIPPED,
    &PROGRAM_RUNS,
    &PROGRAM_SECONDS,
    &CGROUPS,
    &CGROUPS_UNRESOLVED,
    &CGROUPS_LEFT_OUT,
    &CGROUP_RESCANS,
    &CGROUP_WATCH_FAILURES,
    &kubernetes::STATE,
    &kubernetes::SYNCED,
    &kubernetes::EVENT_AGE,
    &kubernetes::RESYNCS,
    &kubernetes::REQUESTS,
    &kubernetes::ERRORS,
    &kubernetes::FORBIDDEN,
    &kubernetes::PODS,
    &kubernetes::OBJECTS,
    &kubernetes::LEFT_OUT,
    &PAGE_SERIES,
    &PAGE_SETTLED,
    &PAGE_DROPPED,
    &PAGE_TYPE_CONFLICTS,
    &targets::FAILURES,
    &targets::DROPPED,
    &targets::SAMPLES,
    &targets::BAD_METADATA,
    &targets::CACHED_SERIES,
    &targets::CACHE_MISSES,
    &targets::CACHE_EVICTIONS,
    &targets::UNCACHED,
    &remote_write::SAMPLES,
    &remote_write::DROPPED,
    &remote_write::RETRIES,
    &remote_write::REQUESTS,
    &remote_write::BYTES,
    &remote_write::SKIPPED,
    &remote_write::BUFFER_BYTES,
    &remote_write::BUFFER_ERRORS,
    &remote_write::PENDING,
    &remote_write::PENDING_BYTES,
    &remote_write::SHARDS,
    &remote_write::SERIES,
    &remote_write::NEWEST,
    &HTTP_REQUESTS,
    &HTTP_LIMITS,
    &HTTP_TLS_FAILURES,
    &TOKEN_REVIEWS,
    &WEB_CONFIG_GOOD,
];

pub(super) static BUILD_INFO: Desc = gauge(
    "podmeter_build_info",
    "The version that is running; the value is always 1.",
    "",
    &["version"],
    "Cargo.toml",
);
pub(super) static LOG_LINES_DROPPED: Desc = counter(
    "podmeter_log_lines_dropped_total",
    "Lines of Podmeter's log that were dropped, because whoever reads its standard error did not keep up.",
    "",
    &[],
    "the lines that wait",
);
pub(super) static SOURCE_DURATION: Desc = gauge(
    "podmeter_source_duration_seconds",
    "How long the last collection from the source took.",
    "seconds",
    &["source"],
    "monotonic clock",
);
pub(super) static SOURCE_SUCCESS: Desc = gauge(
    "podmeter_source_success",
    "Whether the last collection from the source gave its families (1) or an error (0).",
    "",
    &["source"],
    "the source's answer",
);
pub(super) static SOURCE_READ_FAILURES: Desc = counter(
    "podmeter_source_read_failures_total",
    "Cgroups whose files could not be read or understood, while the source's other cgroups were.",
    "",
    &["source"],
    "the source's answer",
);
pub(super) static PROBE_ATTACHED: Desc = gauge(
    "podmeter_probe_attached",
    "Whether the probe is attached (1, with the hook that it uses) or not (0, with the reason).",
    "",
    &["probe", "hook", "reason"],
    "what the kernel answered at start",
);
pub(super) static PROBE_MAP_ENTRIES: Desc = gauge(
    "podmeter_probe_map_entries",
    "Entries of the probe's map that are in use.",
    "",
    &["probe", "map"],
    "the eBPF map",
);
pub(super) static PROBE_MAP_CAPACITY: Desc = gauge(
    "podmeter_probe_map_capacity",
    "Most entries that the probe's map can hold.",
    "",
    &["probe", "map"],
    "the eBPF map",
);
pub(super) static PROBE_SKIPPED: Desc = counter(
    "podmeter_probe_skipped_events_total",
    "Events that the probe saw and that are in none of its families, by reason.",
    "",
    &["probe", "reason"],
    "the probe's map SKIPPED",
);
pub(super) static PROGRAM_RUNS: Desc = counter(
    "podmeter_probe_program_runs_total",
    "How often the probe's program ran while kernel.bpf_stats_enabled was 1.",
    "",
    &["probe", "program"],
    "bpf_prog_info.run_cnt",
);
pub(super) static PROGRAM_SECONDS: Desc = counter(
    "podmeter_probe_program_run_seconds_total",
    "Time spent in the probe's program while kernel.bpf_stats_enabled was 1.",
    "seconds",
    &["probe", "program"],
    "bpf_prog_info.run_time_ns",
);
pub(super) static CGROUPS: Desc = gauge(
    "podmeter_cgroups",
    "Cgroups that are known, live ones and those removed within the grace period.",
    "",
    &["state"],
    "the directories of the hierarchy that has the cpu controller",
);
pub(super) static CGROUPS_UNRESOLVED: Desc = gauge(
    "podmeter_cgroups_unresolved",
    "Ids with measurements in the last collection that no known cgroup has, or network namespace on cgroup v1.",
    "",
    &[],
    "the probes' maps",
);
pub(super) static CGROUPS_LEFT_OUT: Desc = counter(
    "podmeter_cgroups_left_out_total",
    "Sightings of cgroups that are not tracked, because there are too many.",
    "",
    &[],
    "the directories of the hierarchy that has the cpu controller",
);
pub(super) static CGROUP_RESCANS: Desc = counter(
    "podmeter_cgroup_rescans_total",
    "Full walks of the cgroup tree after the first one, because inotify lost events or had no watches left.",
    "",
    &[],
    "inotify",
);
pub(super) static CGROUP_WATCH_FAILURES: Desc = counter(
    "podmeter_cgroup_watch_failures_total",
    "Cgroup directories that could not be watched; see fs.inotify.max_user_watches.",
    "",
    &[],
    "inotify",
);
pub(super) static PAGE_SERIES: Desc = gauge(
    "podmeter_page_series",
    "Series on the page before this one, measured and relayed.",
    "",
    &[],
    "the page",
);
pub(super) static PAGE_SETTLED: Desc = counter(
    "podmeter_page_settled_series_total",
    "Series that were left out because another with the same name and labels was there already.",
    "",
    &[],
    "the page",
);
pub(super) static PAGE_DROPPED: Desc = counter(
    "podmeter_page_dropped_samples_total",
    "Samples of Podmeter's own series that are not served because of the page's relabel_configs, by reason.",
    "",
    &["reason"],
    "the page's relabel_configs",
);
pub(super) static PAGE_TYPE_CONFLICTS: Desc = gauge(
    "podmeter_page_type_conflicts",
    "Families of the page before this one that have no type, because their sources give them different ones.",
    "",
    &[],
    "the page",
);
pub(super) static HTTP_REQUESTS: Desc = counter(
    "podmeter_http_requests_total",
    "Requests to Podmeter's own endpoint, by handler and status code.",
    "",
    &["handler", "code"],
    "the server",
);

pub(super) static HTTP_LIMITS: Desc = counter(
    "podmeter_http_limit_hits_total",
    "Requests and clients that met a limit of Podmeter's own endpoint, by limit.",
    "",
    &["limit"],
    "the server",
);

pub(super) static HTTP_TLS_FAILURES: Desc = counter(
    "podmeter_http_tls_failures_total",
    "TLS handshakes of Podmeter's own endpoint that failed, by reason.",
    "",
    &["reason"],
    "the server",
);

pub(super) static TOKEN_REVIEWS: Desc = counter(
    "podmeter_http_token_reviews_total",
    "Tokens of scrapers that the Kubernetes API was asked about, by result; remembered answers are not counted.",
    "",
    &["result"],
    "the server",
);

pub(super) static WEB_CONFIG_GOOD: Desc = gauge(
    "podmeter_web_config_last_reload_successful",
    "Whether the web configuration file as it was last read holds; 0 while an older one holds instead.",
    "",
    &[],
    "the server",
);
pub(super) static CONFIG_SUCCESSFUL: Desc = gauge(
    "podmeter_config_last_reload_successful",
    "Whether the last configuration that was read is in force.",
    "",
    &[],
    "the last reload, or the start",
);
pub(super) static CONFIG_TIME: Desc = gauge(
    "podmeter_config_last_reload_success_timestamp_seconds",
    "When the configuration that is in force was taken, in seconds since the Unix epoch.",
    "seconds",
    &[],
    "the clock",
);
pub(super) static SECOND_INSTANCE: Desc = gauge(
    "podmeter_second_instance",
    "Whether another Podmeter was in this network namespace before this one, and still is.",
    "",
    &[],
    "an abstract socket, which the first one holds",
);

const fn gauge(
    name: &'static str,
    help: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    origin: &'static str,
) -> Desc {
    Desc { name, help, kind: Kind::Gauge, unit, labels, origin }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    origin: &'static str,
) -> Desc {
    Desc { name, help, kind: Kind::Counter, unit, labels, origin }
}
