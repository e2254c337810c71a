//! Helm itself, by the bindings of its SDK for Python: there is no package of it in Debian.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::Cluster;
use crate::tools::{run_with_input, tool};

/// Reads what to do on standard input, and prints the answer as JSON.
const RUN: &str = "
import asyncio, json, sys
from helm_sdkpy import Configuration, HelmError, Install, Lint, Uninstall
asked = json.load(sys.stdin)
namespace, kubeconfig, release = 'podmeter', asked['kubeconfig'], 'podmeter'
config = Configuration(namespace=namespace, kubeconfig=kubeconfig)
def run(action, *arguments, **options):
    return asyncio.run(action(config).run(*arguments, **options))
try:
    if asked['action'] == 'lint':
        answer = run(Lint, asked['chart'])
    elif asked['action'] == 'install':
        options = dict(values=asked['values'], create_namespace=True, wait=False, disable_openapi_validation=False)
        answer = run(Install, release, asked['chart'], **options)
    else:
        answer = run(Uninstall, release)
    print(json.dumps({ 'answer': answer }))
except HelmError as error:
    print(json.dumps({ 'error': str(error) }))
";

/// A Helm that talks to a cluster; its one release is `podmeter` in the namespace `podmeter`.
#[derive(Debug)]
pub struct Helm<'a> {
    cluster: &'a Cluster,
    /// Where its Python modules are.
    modules: PathBuf,
}

impl<'a> Helm<'a> {
    /// Finds it, or gives nothing after saying that it is not there.
    #[must_use]
    pub fn find(cluster: &'a Cluster) -> Option<Self> {
        Some(Self { cluster, modules: tool("PODMETER_HELM_PATH")? })
    }

    /// What `helm lint` has to say of a chart: severities and texts.
    pub fn lint(&self, chart: &Path) -> Result<Value, String> {
        self.run(&json!({ "action": "lint", "chart": chart }))
    }

    /// Installs a chart, and gives its rendered templates by the names of their files.
    pub fn install(
        &self,
        chart: &Path,
        values: &Value,
    ) -> Result<BTreeMap<String, String>, String> {
        let asked = json!({ "action": "install", "chart": chart, "values": values });
        let release = self.run(&asked)?;
        let manifest = release.get("manifest").and_then(Value::as_str);
        Ok(by_file(manifest.unwrap_or_else(|| panic!("a release has a manifest: {release}"))))
    }

    /// Removes what `install` made.
    pub fn uninstall(&self) {
        let removed = self.run(&json!({ "action": "uninstall" }));
        removed.unwrap_or_else(|error| panic!("helm uninstall: {error}"));
    }

    fn run(&self, asked: &Value) -> Result<Value, String> {
        let mut asked = asked.clone();
        let fields = asked.as_object_mut().expect("an object");
        fields.insert("kubeconfig".into(), json!(self.cluster.kubectl().kubeconfig()));
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &self.modules).args(["-c", RUN]);
        let output = run_with_input(&mut python, asked.to_string().as_bytes());
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let printed: Value = serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("{error}: {printed}\n{said}"));
        let error = printed.get("error").and_then(Value::as_str).map(str::to_owned);
        printed.get("answer").cloned().ok_or_else(|| error.expect("an answer or an error"))
    }
}

/// Takes a manifest apart, at the comments by which Helm says where its parts come from.
fn by_file(manifest: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for part in manifest.split("---\n").filter(|part| !part.trim().is_empty()) {
        let (source, text) = part.split_once('\n').expect("a comment is a line");
        let name = source.rsplit('/').next().filter(|_| source.starts_with("# Source: "));
        let name = name.unwrap_or_else(|| panic!("it does not say where it is from: {part}"));
        let twice = files.insert(name.to_owned(), text.to_owned());
        assert_eq!(twice, None, "{name} has two objects");
    }
    files
}
