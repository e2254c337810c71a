//! A Deployment to which everything happens that Podmeter measures.

use podmeter_tests::cluster::{
    node::{IMAGE, Node},
    workload::busy_container,
};

/// How many pods the Deployment has.
pub(super) const N_PODS: usize = 2;

/// The address of its Service.
const SERVICE: &str = "10.96.77.7";
/// An address of the link to the node at which nobody is.
const NOBODY: &str = "198.18.77.77";

/// Applies it, and waits until its containers run; `region` and `dept` are labels of the Deployment alone.
///
/// `webapi` is asked over the network by the kubelet once a second, and by `client`, which also asks where nobody answers;
/// `worker` is throttled and writes; what `leak` starts is killed for the memory that it takes.
pub(super) fn run(node: &Node) {
    node.cluster().kubectl().apply(&manifest());
    node.wait_for_pods("n9e", N_PODS);
}

fn manifest() -> String {
    let worker = busy_container();
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{ name: n9e, labels: {{ team: sre }} }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: n9e-webapi, namespace: n9e, labels: {{ region: beijing, dept: cloud }} }}
spec:
  replicas: {N_PODS}
  selector: {{ matchLabels: {{ app: n9e-webapi }} }}
  template:
    metadata: {{ labels: {{ app: n9e-webapi }} }}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: webapi
          image: {IMAGE}
          command: [sh, -c, "echo well > /data/index.html; httpd -f -p 8080 -h /data"]
          readinessProbe: {{ periodSeconds: 1, httpGet: {{ path: /index.html, port: 8080 }} }}
        - name: client
          image: {IMAGE}
          command:
            - sh
            - -c
            - |
              while :; do
                wget -q -T 1 -O /dev/null http://{SERVICE}/index.html
                wget -q -T 1 -O /dev/null http://127.0.0.1:9/
                wget -q -T 2 -O /dev/null http://{NOBODY}/
                sleep 0.5
              done
        - name: leak
          image: {IMAGE}
          command: [sh, -c, "while :; do dd if=/dev/zero of=/dev/null bs=64M count=1; sleep 3; done"]
          resources: {{ limits: {{ memory: 16Mi }} }}
{worker}
---
apiVersion: v1
kind: Service
metadata: {{ name: n9e-webapi, namespace: n9e }}
spec:
  clusterIP: {SERVICE}
  selector: {{ app: n9e-webapi }}
  ports: [ {{ port: 80, targetPort: 8080 }} ]
"#
    )
}

/// Has kube-proxy something to do: it writes its rules when something changes.
pub(super) fn change_service(node: &Node, n_changes: &mut u32) {
    *n_changes += 1;
    let port = 8080 + *n_changes % 2;
    let patch = format!(r#"{{"spec":{{"ports":[{{"port":80,"targetPort":{port}}}]}}}}"#);
    let service = ["patch", "--namespace=n9e", "service/n9e-webapi", "--patch"];
    node.cluster().kubectl().run(&[&service[..], &[patch.as_str()]].concat());
}
