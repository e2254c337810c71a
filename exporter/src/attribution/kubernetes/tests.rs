//! The conversation with an API server: a small one on a real socket, whose answers each test writes.

use std::{
    collections::VecDeque,
    io::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time,
};

use super::{
    Kubernetes, KubernetesStatus, Settings, SyncState, connect::Access, testing, view::PodView,
    watch::Patience,
};

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_mins(1);

const LIST: &str = include_str!("../../../../tests/fixtures/v1.34.9/pods-on-node.json");
const STREAM: &str =
    include_str!("../../../../tests/fixtures/v1.34.9/watch/pods-sendinitial.jsonl");
const NO_STREAM: &str =
    include_str!("../../../../tests/fixtures/v1.20.2/watch/pods-sendinitial.jsonl");
const GONE: &str = include_str!("../../../../tests/fixtures/v1.34.9/watch/gone.jsonl");
const FORBIDDEN: &str = include_str!("../../../../tests/fixtures/v1.34.9/api-forbidden.json");
const REPLICA_SETS: &str =
    include_str!("../../../../tests/fixtures/v1.34.9/replicasets-partial.json");

const ROLLOUTS: &str = r#"{"resources":[{"name":"rollouts/status","kind":"Rollout"},{"name":"rollouts","kind":"Rollout","namespaced":true}]}"#;
const ROLLOUT: &str =
    r#"{"message":"no","metadata":{"name":"web","uid":"r","labels":{"team":"sre"}}}"#;
/// A pod that a Rollout runs without a `ReplicaSet` in between.
const OF_ROLLOUT: &str = r#"{"type":"ADDED","object":{"metadata":{"name":"web-0","namespace":"n9e","uid":"u","resourceVersion":"999",
    "ownerReferences":[{"apiVersion":"argoproj.io/v1alpha1","kind":"Rollout","name":"web","uid":"r","controller":true}]}}}"#;

/// One answer of the server.
#[derive(Clone, Debug)]
enum Answer {
    Json(u16, String),
    /// A watch that sends this and stays open, silent.
    Open(String),
    /// A watch that sends this and ends.
    Ended(String),
    /// The connection is closed without a word.
    Cut,
}

/// Answers requests for pods by a script whose last entry is repeated, and every other one by what exists.
#[derive(Clone)]
struct Server {
    script: Arc<Mutex<VecDeque<Answer>>>,
    paths: Arc<Mutex<Vec<String>>>,
    deployments_forbidden: bool,
}

impl Server {
    async fn start(script: impl IntoIterator<Item = Answer>) -> (Self, NamedTempFile) {
        Self::start_with(script, false).await
    }

    async fn start_with(
        script: impl IntoIterator<Item = Answer>,
        deployments_forbidden: bool,
    ) -> (Self, NamedTempFile) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            paths: Arc::default(),
            deployments_forbidden,
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        let mut kubeconfig = NamedTempFile::new().unwrap();
        write!(
            kubeconfig,
            "apiVersion: v1\nkind: Config\ncurrent-context: t\n\
             clusters: [{{name: t, cluster: {{server: 'http://{address}'}}}}]\n\
             users: [{{name: t, user: {{token: t}}}}]\n\
             contexts: [{{name: t, context: {{cluster: t, user: t}}}}]\n"
        )
        .unwrap();
        (server, kubeconfig)
    }

    async fn serve(self, mut stream: TcpStream) {
        loop {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => return,
                }
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap().to_owned();
            let answer = if path.starts_with("/api/v1/pods") {
                self.next(&path)
            } else {
                self.object(&path)
            };
            let sent = match answer {
                Answer::Json(status, body) => {
                    let length = body.len();
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
                    stream.write_all(format!("{head}{body}").as_bytes()).await
                }
                Answer::Open(body) => {
                    let sent = stream.write_all(chunked(&body).as_bytes()).await;
                    // Until the client goes.
                    let mut rest = Vec::new();
                    return drop((sent, stream.read_to_end(&mut rest).await));
                }
                Answer::Ended(body) => {
                    stream.write_all(format!("{}0\r\n\r\n", chunked(&body)).as_bytes()).await
                }
                Answer::Cut => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn next(&self, path: &str) -> Answer {
        self.paths.lock().unwrap().push(path.to_owned());
        let mut script = self.script.lock().unwrap();
        if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
    }

    fn object(&self, path: &str) -> Answer {
        if path == "/apis/argoproj.io/v1alpha1" {
            return Answer::Json(200, ROLLOUTS.into());
        }
        let (path, _) = path.split_once('?').unwrap();
        if path == "/apis/argoproj.io/v1alpha1/namespaces/n9e/rollouts/web" {
            let status = if self.deployments_forbidden { 403 } else { 200 };
            return Answer::Json(status, ROLLOUT.into());
        }
        if self.deployments_forbidden && path.contains("/deployments/") {
            return Answer::Json(403, FORBIDDEN.replace("secrets", "deployments"));
        }
        let name = path.rsplit('/').next().unwrap();
        let list: serde_json::Value = serde_json::from_str(REPLICA_SETS).unwrap();
        let items = list["items"].as_array().unwrap();
        match items.iter().find(|item| item["metadata"]["name"] == name) {
            Some(item) if path.contains("/replicasets/") => Answer::Json(200, item.to_string()),
            _ => Answer::Json(404, r#"{"kind":"Status","code":404,"message":"not found"}"#.into()),
        }
    }

    fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }
}

fn chunked(body: &str) -> String {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    if body.is_empty() {
        return head.into();
    }
    format!("{head}{:x}\r\n{body}\r\n", body.len())
}

fn start(kubeconfig: &NamedTempFile) -> Kubernetes {
    let patience = Patience {
        with_bookmarks: Duration::from_millis(300),
        beyond_timeout: Duration::from_secs(15),
        initial: DEADLINE,
    };
    let settings = Settings {
        access: Access::Kubeconfig(kubeconfig.path().into()),
        node: "vm-node-1".into(),
        wanted: testing::all(),
        refresh: Duration::from_mins(5),
    };
    Kubernetes::start_with(settings, patience)
}

/// Waits until it holds; says how it stood if it never does.
async fn eventually(kubernetes: &Kubernetes, holds: impl Fn(&KubernetesStatus, &PodView) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, view) = (kubernetes.status(), kubernetes.view(|_| true));
        if holds(&status, &view) {
            return;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        time::sleep(Duration::from_millis(5)).await;
    }
}

fn watch_line(kind: &str, name: &str, uid: &str, version: u32) -> String {
    format!(
        r#"{{"type":"{kind}","object":{{"metadata":{{"name":"{name}","namespace":"n9e","uid":"{uid}","resourceVersion":"{version}"}}}}}}"#
    ) + "\n"
}

fn bookmark(version: u32) -> String {
    format!(
        r#"{{"type":"BOOKMARK","object":{{"kind":"Pod","apiVersion":"v1","metadata":{{"resourceVersion":"{version}"}}}}}}"#
    ) + "\n"
}

#[tokio::test]
async fn a_recorded_stream_of_a_new_server_names_all_pods_and_their_deployments() {
    let (server, kubeconfig) = Server::start([Answer::Open(STREAM.into())]).await;
    let kubernetes = start(&kubeconfig);
    kubernetes.wait_settled(Instant::now() + DEADLINE).await;
    let status = kubernetes.status();
    assert_eq!((status.state, status.is_synced), (SyncState::Watching, true), "{status:?}");
    let view = kubernetes.view(|_| true);
    let webapi = view.live().iter().filter(|pod| pod.deployment.as_deref() == Some("n9e-webapi"));
    assert!(webapi.count() >= 2);
    assert!(view.live().iter().all(|pod| pod.workload.is_some()));
    let path = &server.paths()[0];
    assert!(path.contains("fieldSelector=spec.nodeName%3Dvm-node-1&"), "{path}");
    assert!(path.contains("sendInitialEvents=true"), "{path}");
}

#[tokio::test]
async fn an_old_server_is_listed_and_watched_from_there() {
    let (server, kubeconfig) = Server::start([
        Answer::Json(422, NO_STREAM.into()),
        Answer::Json(200, LIST.into()),
        Answer::Open(watch_line("ADDED", "new", "new-uid", 999)),
    ])
    .await;
    let kubernetes = start(&kubeconfig);
    eventually(&kubernetes, |_, view| view.live().len() == 11).await;
    let paths = server.paths();
    assert!(paths[1].contains("resourceVersion=0"), "{}", paths[1]);
    assert!(paths[2].contains("resourceVersion=486"), "{}", paths[2]);
    let view = kubernetes.view(|_| true);
    assert_eq!(view.pod_named("n9e", "new").unwrap().pod.uid.as_str(), "new-uid");
    let status = kubernetes.status();
    assert_eq!(status.state, SyncState::Watching);
    assert!(status.errors.is_empty(), "to be old is no error: {:?}", status.errors);
    assert_eq!(status.last_error, None);
}

#[tokio::test]
async fn what_a_watch_cannot_go_on_from_is_listed_anew_and_nothing_is_lost() {
    let refusals = [
        Answer::Open(GONE.into()),
        Answer::Json(410, r#"{"code":410,"message":"too old"}"#.into()),
        // What a server says of the very version that was compacted.
        Answer::Json(
            500,
            r#"{"code":500,"message":"etcdserver: mvcc: required revision has been compacted"}"#
                .into(),
        ),
    ];
    for refusal in refusals {
        let (server, kubeconfig) = Server::start([
            Answer::Json(422, NO_STREAM.into()),
            Answer::Json(200, LIST.into()),
            refusal.clone(),
            Answer::Json(200, LIST.into()),
            Answer::Open(bookmark(1000)),
        ])
        .await;
        let kubernetes = start(&kubeconfig);
        eventually(&kubernetes, |status, view| {
            assert!(!status.is_synced || view.live().len() == 10, "a pod was lost");
            status.n_resyncs == 1 && status.state == SyncState::Watching
        })
        .await;
        let n_streams = server.paths().iter().filter(|path| path.contains("sendInitial")).count();
        assert_eq!(n_streams, 1, "that the server cannot stream is remembered");
    }
}

#[tokio::test]
async fn a_half_open_connection_is_given_up_and_the_watch_goes_on() {
    let (server, kubeconfig) = Server::start([
        Answer::Json(422, NO_STREAM.into()),
        Answer::Json(200, LIST.into()),
        Answer::Open(bookmark(1000)),
        Answer::Cut,
        Answer::Ended(bookmark(1001)),
        Answer::Open(watch_line("ADDED", "new", "new-uid", 1002)),
    ])
    .await;
    let kubernetes = start(&kubeconfig);
    eventually(&kubernetes, |_, view| view.pod_named("n9e", "new").is_some()).await;
    let status = kubernetes.status();
    assert_eq!(status.n_resyncs, 0, "the watch went on from where it was");
    assert!(status.errors.keys().any(|(_, kind)| *kind == "timeout"), "{:?}", status.errors);
    let paths = server.paths();
    assert!(paths[3].contains("resourceVersion=1000"), "{paths:?}");
    assert!(paths[5].contains("resourceVersion=1001"), "{paths:?}");
}

#[tokio::test]
async fn what_is_forbidden_is_said_and_tried_again() {
    let (_server, kubeconfig) = Server::start([
        Answer::Json(403, FORBIDDEN.replace("secrets", "pods")),
        Answer::Open(STREAM.into()),
    ])
    .await;
    let kubernetes = start(&kubeconfig);
    kubernetes.wait_settled(Instant::now() + DEADLINE).await;
    eventually(&kubernetes, |status, _| {
        status.state != SyncState::Starting
            && (status.is_synced || status.forbidden["pods"].contains("cannot list resource"))
    })
    .await;
    eventually(&kubernetes, |status, view| {
        status.forbidden.is_empty()
            && status.state == SyncState::Watching
            && !view.live().is_empty()
    })
    .await;
}

#[tokio::test]
async fn forbidden_owners_cost_their_labels_and_not_the_names() {
    let (_server, kubeconfig) = Server::start_with([Answer::Open(STREAM.into())], true).await;
    let kubernetes = start(&kubeconfig);
    kubernetes.wait_settled(Instant::now() + DEADLINE).await;
    let status = kubernetes.status();
    assert_eq!(status.state, SyncState::Watching);
    assert!(status.forbidden.contains_key("deployments"), "{status:?}");
    let view = kubernetes.view(|_| true);
    assert!(view.live().iter().any(|pod| pod.deployment.as_deref() == Some("n9e-webapi")));
}

#[tokio::test]
async fn a_foreign_controller_is_found_by_discovery() {
    for forbidden in [false, true] {
        let stream = format!("{STREAM}{}\n", OF_ROLLOUT.replace('\n', ""));
        let (_server, kubeconfig) = Server::start_with([Answer::Open(stream)], forbidden).await;
        let kubernetes = start(&kubeconfig);
        eventually(&kubernetes, |status, view| {
            let pod = view.pod_named("n9e", "web-0");
            let workload = pod.and_then(|pod| pod.workload.as_ref());
            let metadata = pod.and_then(|pod| pod.workload_metadata.as_ref());
            let is_named =
                workload.is_some_and(|one| (&*one.kind, &*one.name) == ("rollout", "web"));
            let is_said = status.forbidden.get("Rollout").is_some_and(|text| text.contains("403"));
            let is_labelled = metadata.and_then(|one| one.label("team")) == Some("sre");
            is_named && (is_said, is_labelled) == (forbidden, !forbidden)
        })
        .await;
    }
}

#[tokio::test]
async fn credentials_are_read_again_when_they_are_refused() {
    let (server, kubeconfig) = Server::start([
        Answer::Json(401, r#"{"code":401,"message":"Unauthorized"}"#.into()),
        Answer::Open(STREAM.into()),
    ])
    .await;
    let kubernetes = start(&kubeconfig);
    eventually(&kubernetes, |status, _| status.state == SyncState::Watching).await;
    assert!(server.paths().len() >= 2);
    assert_eq!(kubernetes.status().errors.values().sum::<u64>(), 1);
}

#[tokio::test]
async fn a_kubeconfig_that_wants_a_program_is_refused() {
    let mut kubeconfig = NamedTempFile::new().unwrap();
    write!(
        kubeconfig,
        "apiVersion: v1\nkind: Config\ncurrent-context: t\n\
         clusters: [{{name: t, cluster: {{server: 'http://127.0.0.1:1'}}}}]\n\
         users: [{{name: t, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: 'false'}}}}}}]\n\
         contexts: [{{name: t, context: {{cluster: t, user: t}}}}]\n"
    )
    .unwrap();
    let kubernetes = start(&kubeconfig);
    kubernetes.wait_settled(Instant::now() + DEADLINE).await;
    let status = kubernetes.status();
    let (_, error) = status.last_error.unwrap();
    assert!(error.contains("from a program"), "{error}");
    assert_eq!(status.state, SyncState::Retrying);
}
