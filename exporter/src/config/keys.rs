//! The keys of the configuration file: what docs/configuration.md says of them, and which one was probably meant.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::source::probe::{PROBES, ProbeDef, Switch};

/// One key for the documentation.
pub struct Key {
    /// Its path in the file.
    pub path: &'static str,
    /// Its value if it is not given.
    pub default: &'static str,
    /// One or more full sentences.
    pub doc: &'static str,
}

/// Every key, in the order of the documentation.
pub const KEYS: &[Key] = &[
    Key {
        path: "listen",
        default: "`0.0.0.0:9643`",
        doc: "IP address and port on which `/metrics`, `/healthz`, `/readyz` and `/` are served: `127.0.0.1:9643` is for this machine only, `${NODE_IP}:9643` for the node's own address. A change needs a restart.",
    },
    Key {
        path: "web.config_file",
        default: "none: plain HTTP for everybody",
        doc: "TLS and who may read the page, as a file in the format of Prometheus' exporter-toolkit; `--web.config.file` names it, too. docs/deploying.md says what of the format there is. It is read again when it or a file that it names has changed.",
    },
    Key {
        path: "web.kubernetes_auth",
        default: "`false`",
        doc: "Whether who reads the page must show a token whose owner the Kubernetes API lets `GET /metrics` (TokenReview and SubjectAccessReview), as behind kube-rbac-proxy. docs/deploying.md says how long its answers hold.",
    },
    Key {
        path: "external_labels",
        default: "none",
        doc: "Labels that every series gets, by name. A name that Podmeter gives itself is refused.",
    },
    Key {
        path: "node_name",
        default: "`$NODE_NAME`, or the host's name in lower case",
        doc: "The name of this node in the Kubernetes API: only its pods are asked for.",
    },
    Key {
        path: "kubernetes.enabled",
        default: "`auto`",
        doc: "Whether pods are named by the Kubernetes API. `auto`: if there is a service account or a kubeconfig; `true`: it is an error if there is neither; `false`: never.",
    },
    Key {
        path: "kubernetes.kubeconfig",
        default: "`$KUBECONFIG`, or the pod's service account",
        doc: "The kubeconfig that says where the API server is, for Podmeter outside of a pod. One that gets its credentials from a program is refused.",
    },
    Key {
        path: "kubernetes.labels",
        default: "none",
        doc: "Labels that every series about a pod or container gets, as a list of rules. `from` says where the value is: `pod`, `namespace`, `node`, `deployment` or `workload`, then `label` or `annotation`, then the key, such as `pod.label.region`. `or`, one or a list, says where it is otherwise. `to` is the label's name. With `*` at its end, `from` is a pattern that names its labels itself, as kube-state-metrics does: `label_…`.",
    },
    Key {
        path: "kubernetes.metadata_refresh",
        default: "`5m`",
        doc: "How long labels and annotations of Deployments, namespaces and nodes are trusted before they are read again, at least `1s`. Those of pods are followed at once.",
    },
    Key {
        path: "kubernetes.pod_state.enabled",
        default: "`true`",
        doc: "Whether the state of this node's pods is served under kube-state-metrics' names (`kube_pod_…`); for whoever runs kube-state-metrics, `false` saves the double.",
    },
    Key {
        path: "probes.<name>.enabled",
        default: "the probe's own",
        doc: "Whether the kernel probe of that name is loaded; docs/metrics.md lists the probes and which are on.",
    },
    Key {
        path: "scrape_configs",
        default: "in a pod with `hostNetwork`, the kubelet and kube-proxy of the node; otherwise none",
        doc: "The pages of others on this node, which are relayed; the keys are Prometheus' own. `[]` is none. docs/relay.md has the default.",
    },
    Key {
        path: "scrape_configs[].job_name",
        default: "must be given",
        doc: "The label `job` of the target's series; no two targets have the same.",
    },
    Key {
        path: "scrape_configs[].url",
        default: "must be given",
        doc: "The page, such as `https://${NODE_IP}:10250/metrics/cadvisor`.",
    },
    Key {
        path: "scrape_configs[].params",
        default: "none",
        doc: "Parameters of the URL: lists of values by name.",
    },
    Key {
        path: "scrape_configs[].authorization",
        default: "none",
        doc: "The header `Authorization`: `type` (`Bearer`), and `credentials` or `credentials_file`, which is read again for each scrape because tokens rotate.",
    },
    Key {
        path: "scrape_configs[].basic_auth",
        default: "none",
        doc: "`username`, and `password` or `password_file`.",
    },
    Key {
        path: "scrape_configs[].tls_config",
        default: "the system's authorities, verified",
        doc: "`ca_file`, `cert_file` and `key_file`, `server_name`, `insecure_skip_verify`. Files are read again when they change.",
    },
    Key {
        path: "scrape_configs[].enable_compression",
        default: "`false`",
        doc: "Whether gzip is asked for. Unlike in Prometheus it is not by default: a target is on the same node, where compressing costs more than the bytes.",
    },
    Key {
        path: "scrape_configs[].scrape_timeout",
        default: "`10s`",
        doc: "How long the target may take. A page waits for its targets for at most `8s`, so that Prometheus' default of `10s` for the whole is kept.",
    },
    Key {
        path: "scrape_configs[].honor_labels",
        default: "`false`",
        doc: "Whose label holds if both have one of the same name: `true` the target's, `false` Podmeter's, and the target's becomes `exported_…`.",
    },
    Key {
        path: "scrape_configs[].honor_timestamps",
        default: "`true`",
        doc: "Whether the times that the target gives are served.",
    },
    Key {
        path: "scrape_configs[].body_size_limit",
        default: "`64MB`",
        doc: "Largest page, unpacked; `0` is the most, `1GB`.",
    },
    Key {
        path: "scrape_configs[].sample_limit",
        default: "`0`",
        doc: "Most samples after the rules; `0` is no limit. Beyond it the scrape fails, as in Prometheus.",
    },
    Key {
        path: "scrape_configs[].label_limit",
        default: "`0`",
        doc: "Most labels of a series; `0` is no limit.",
    },
    Key {
        path: "scrape_configs[].label_name_length_limit",
        default: "`0`",
        doc: "Most bytes of a label's name; `0` is no limit.",
    },
    Key {
        path: "scrape_configs[].label_value_length_limit",
        default: "`0`",
        doc: "Most bytes of a label's value; `0` is no limit.",
    },
    Key {
        path: "scrape_configs[].metric_relabel_configs",
        default: "none",
        doc: "What is done to each series of the target: a list of rules with `source_labels`, `separator`, `regex`, `modulus`, `target_label`, `replacement`, `action`, as in Prometheus. `${1}` in a rule is a group, never a variable.",
    },
    Key {
        path: "kubelet.tls_config",
        default: "the cluster's authority, verified",
        doc: "How the kubelet of the default `scrape_configs` proves who it is: the keys of `scrape_configs[].tls_config`. An error beside `scrape_configs`.",
    },
    Key {
        path: "relabel_configs",
        default: "none",
        doc: "What is done to each series of the page, Podmeter's own and `up` among them, and those of a target behind its own rules: rules of the same kind. A histogram's `_bucket`, `_sum` and `_count` are series of their own, as on the page. `external_labels` come behind the rules.",
    },
    Key {
        path: "remote_write_interval",
        default: "`15s`",
        doc: "How often what is pushed is collected, from `1s` to `5m`. The instants are the same after each restart, and others on each node.",
    },
    Key {
        path: "remote_write",
        default: "none",
        doc: "Whom each collection is pushed to by Prometheus' remote write: a list, whose keys are Prometheus' own. docs/remote-write.md says what is sent, and what becomes of it while a receiver is away.",
    },
    Key {
        path: "remote_write[].url",
        default: "must be given",
        doc: "The receiver, such as `https://metrics.example/api/v1/write`.",
    },
    Key {
        path: "remote_write[].name",
        default: "host and port of `url`",
        doc: "What the receiver is called in metrics and in the log; no two have the same.",
    },
    Key {
        path: "remote_write[].remote_timeout",
        default: "`30s`",
        doc: "How long the receiver may take to answer.",
    },
    Key {
        path: "remote_write[].headers",
        default: "none",
        doc: "More headers of each request, such as `X-Scope-OrgID`.",
    },
    Key {
        path: "remote_write[].protobuf_message",
        default: "`prometheus.WriteRequest`",
        doc: "The message: `prometheus.WriteRequest` is of Remote-Write 1.0, `io.prometheus.write.v2.Request` of 2.0, which is smaller and has metadata with each series.",
    },
    Key {
        path: "remote_write[].write_relabel_configs",
        default: "none",
        doc: "What is done to each series before it is sent: rules as in `relabel_configs`, behind all that is done for the page.",
    },
    Key {
        path: "remote_write[].authorization",
        default: "none",
        doc: "As in `scrape_configs`; the file is read again for each request.",
    },
    Key { path: "remote_write[].basic_auth", default: "none", doc: "As in `scrape_configs`." },
    Key {
        path: "remote_write[].tls_config",
        default: "the system's authorities, verified",
        doc: "As in `scrape_configs`.",
    },
    Key {
        path: "remote_write[].queue_config.capacity",
        default: "`250000`",
        doc: "Most samples that wait in memory, in all shards together (in Prometheus: in each); they are compressed, and have no more than 32 MB whatever their number. Beyond it the oldest are dropped and counted.",
    },
    Key {
        path: "remote_write[].queue_config.min_shards",
        default: "`1`",
        doc: "Fewest requests that can be under way at once. A series keeps to one of them, so that its samples come in order.",
    },
    Key {
        path: "remote_write[].queue_config.max_shards",
        default: "`4`",
        doc: "Most requests that can be under way at once, as long as a receiver that works is behind; at most 64.",
    },
    Key {
        path: "remote_write[].queue_config.max_samples_per_send",
        default: "`2000`",
        doc: "Most samples of a request.",
    },
    Key {
        path: "remote_write[].queue_config.batch_send_deadline",
        default: "`5s`",
        doc: "How long samples wait for those of the next page, where one comes within that time.",
    },
    Key {
        path: "remote_write[].queue_config.min_backoff",
        default: "`30ms`",
        doc: "The wait after the first failure; it doubles with each.",
    },
    Key {
        path: "remote_write[].queue_config.max_backoff",
        default: "`5s`",
        doc: "The longest wait, unless the receiver asks for a longer one by `Retry-After`.",
    },
    Key {
        path: "remote_write[].queue_config.retry_on_http_429",
        default: "`true`",
        doc: "Whether a request is sent again that the receiver answers by 429. Unlike in Prometheus it is by default.",
    },
    Key {
        path: "remote_write[].queue_config.sample_age_limit",
        default: "`0s`",
        doc: "How old samples may be that are sent; `0s` is no limit.",
    },
    Key {
        path: "remote_write[].metadata_config",
        default: "`{ send: true, send_interval: 1m }`",
        doc: "Whether and how often types and help of families are sent with the message of 1.0; 2.0 has them with each series.",
    },
    Key {
        path: "remote_write[].buffer.directory",
        default: "none: what waits is in memory alone",
        doc: "A folder of this receiver alone, from the root, in which what was not sent yet outlives Podmeter, `kill -9` included. It is made if need be.",
    },
    Key {
        path: "remote_write[].buffer.size_limit",
        default: "must be given with the folder",
        doc: "Most bytes of its files, such as `512MB`, at least `1MB`. Beyond it the oldest file is dropped, and its samples are counted.",
    },
    Key {
        path: "cgroups.max_tracked",
        default: "`16384`",
        doc: "Most cgroups that are told apart, those that ended a short while ago included; what the kernel probes \
              measure of the others is one remainder, `cgroup=\"(unresolved)\"`. A change needs a restart.",
    },
    Key {
        path: "paths.procfs",
        default: "`/proc`",
        doc: "Where the host's procfs is mounted. A change of `paths` needs a restart.",
    },
    Key { path: "paths.sysfs", default: "`/sys`", doc: "Where the host's sysfs is mounted." },
    Key {
        path: "paths.cgroupfs",
        default: "found in `mountinfo`",
        doc: "Where the host's cgroup hierarchies are mounted, if not where this process sees them.",
    },
];

/// The names of all probes, as serde wants the known keys.
const PROBE_NAMES: [&str; PROBES.len()] = probe_names();

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time on a table")]
const fn probe_names() -> [&'static str; PROBES.len()] {
    let mut names = [""; PROBES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = PROBES[index].name;
        index += 1;
    }
    names
}

/// Which probes are switched on or off; for those that are not named their own default holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbesConfig(BTreeMap<String, ProbeSwitch>);

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct ProbeSwitch {
    #[serde(default)]
    enabled: Option<bool>,
}

impl ProbesConfig {
    /// Whether the probe is to be loaded.
    #[must_use]
    pub fn enabled(&self, probe: &ProbeDef) -> bool {
        let said = self.0.get(probe.name).and_then(|switch| switch.enabled);
        said.unwrap_or(probe.switch == Switch::On)
    }
}

impl<'de> Deserialize<'de> for ProbesConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;

        impl<'de> Visitor<'de> for ByName {
            type Value = ProbesConfig;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a mapping from the names of probes to their settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProbesConfig, A::Error> {
                let mut switches = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !PROBE_NAMES.contains(&name.as_str()) {
                        return Err(A::Error::unknown_field(&name, &PROBE_NAMES));
                    }
                    switches.insert(name, map.next_value()?);
                }
                Ok(ProbesConfig(switches))
            }
        }

        deserializer.deserialize_map(ByName)
    }
}

/// The known key that is most like the given one, if any is like it at all.
pub(super) fn nearest(given: &str, known: &[&'static str]) -> Option<&'static str> {
    /// Below this the words have little in common.
    const LEAST_LIKENESS: f64 = 0.6;

    let likeness = |key: &str| strsim::jaro_winkler(given, key);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LEAST_LIKENESS).then_some(best)
}
