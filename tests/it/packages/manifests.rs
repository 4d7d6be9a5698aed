//! What holds for manifests of Kubernetes, beyond their schemas: the parts fit together, pods have no rights, and the program knows
//! the flags that it is started with.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{file, script, yaml};
use crate::{
    clients::search_path,
    following::{known, push},
    harness::{Serve, finish, noise, ocipfs, trials},
    names::image::Image,
};

pub fn trials() -> Vec<Trial> {
    trials![
        the_manifests_without_helm_fit_together,
        the_secret_of_a_swarm_holds_the_seed_that_it_names,
        the_settings_of_the_build_farm_are_read,
    ]
}

/// What a Secret gives to pods as variables: a peer ID and a name.
const SEED: [(&str, &str); 2] = [
    ("$(SEED_PEER)", "12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh"),
    ("$(SEED_NAME)", "k51qzi5uqu5dma64ane0i08ksf6nxq417oni9tmxsr6bcijycoct5geaxw5fxc"),
];
/// Keys of the Secret that `bootstrap/kubernetes/secret` makes.
const SECRET_KEYS: [&str; 4] = ["seed.key", "seed.name", "seed.peer", "swarm.key"];

/// Holds that manifests fit together.
pub fn check(documents: &[Value]) {
    let workloads: Vec<_> = documents.iter().filter(|one| one["spec"]["template"].is_object()).collect();
    assert!(!workloads.is_empty());
    for workload in &workloads {
        let labels = &workload["spec"]["template"]["metadata"]["labels"];
        assert!(contains(labels, &workload["spec"]["selector"]["matchLabels"]), "{workload}");
        check_pod(workload);
    }
    let of_kind = |kind: &'static str| documents.iter().filter(move |one| one["kind"] == kind);
    for service in of_kind("Service") {
        let selected: Vec<_> = workloads
            .iter()
            .filter(|one| {
                contains(&one["spec"]["template"]["metadata"]["labels"], &service["spec"]["selector"])
            })
            .collect();
        assert!(!selected.is_empty(), "selects no pod: {service}");
        for port in array(&service["spec"]["ports"]) {
            assert!(selected.iter().all(|one| ports(one).contains(text(&port["targetPort"]))), "{service}");
        }
    }
    for workload in workloads.iter().filter(|one| one["kind"] == "StatefulSet") {
        let serving = &workload["spec"]["serviceName"];
        let service = of_kind("Service").find(|one| one["metadata"]["name"] == *serving);
        assert_eq!(service.expect("a headless service")["spec"]["clusterIP"], "None");
    }
    for monitor in of_kind("ServiceMonitor") {
        let selector = &monitor["spec"]["selector"]["matchLabels"];
        let services: Vec<_> =
            of_kind("Service").filter(|one| contains(&one["metadata"]["labels"], selector)).collect();
        let [service] = services[..] else { panic!("{services:?} for {monitor}") };
        let named: BTreeSet<_> = array(&service["spec"]["ports"]).map(|port| text(&port["name"])).collect();
        for endpoint in array(&monitor["spec"]["endpoints"]) {
            assert!(named.contains(text(&endpoint["port"])) && endpoint["path"] == "/metrics", "{monitor}");
        }
    }
    for policy in of_kind("NetworkPolicy") {
        let selector = &policy["spec"]["podSelector"]["matchLabels"];
        assert!(
            workloads.iter().all(|one| contains(&one["spec"]["template"]["metadata"]["labels"], selector)),
            "{policy}"
        );
    }
}

fn check_pod(workload: &Value) {
    let pod = &workload["spec"]["template"]["spec"];
    // The variables of a Service called ocipfs would be unknown settings.
    assert_eq!(pod["enableServiceLinks"], false, "{pod}");
    assert_eq!(pod["automountServiceAccountToken"], false, "{pod}");
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{pod}");
    let has_host_path = array(&pod["volumes"]).any(|volume| volume["hostPath"].is_object());
    assert!(has_host_path || pod["securityContext"]["runAsNonRoot"] == true, "{pod}");
    let [container] = array(&pod["containers"]).collect::<Vec<_>>()[..] else { panic!("{pod}") };
    let rights = &container["securityContext"];
    assert_eq!(
        (&rights["readOnlyRootFilesystem"], &rights["allowPrivilegeEscalation"]),
        (&true.into(), &false.into())
    );
    assert_eq!(rights["capabilities"]["drop"], serde_json::json!(["ALL"]));
    for (probe, path) in
        [("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        let get = &container[probe]["httpGet"];
        assert_eq!((&get["path"], &get["port"]), (&path.into(), &"admin".into()), "{container}");
    }
    let claims = array(&workload["spec"]["volumeClaimTemplates"]).map(|claim| &claim["metadata"]["name"]);
    let volumes: BTreeSet<&str> =
        array(&pod["volumes"]).map(|volume| &volume["name"]).chain(claims).map(text).collect();
    let mounts: BTreeMap<&str, &str> = array(&container["volumeMounts"])
        .map(|mount| (text(&mount["mountPath"]), text(&mount["name"])))
        .collect();
    assert_eq!(mounts.values().copied().collect::<BTreeSet<_>>(), volumes, "{pod}");
    for volume in array(&pod["volumes"]).filter(|volume| volume["secret"]["items"].is_array()) {
        assert!(
            array(&volume["secret"]["items"]).all(|item| SECRET_KEYS.contains(&text(&item["key"]))),
            "{volume}"
        );
    }
    for variable in
        array(&container["env"]).filter_map(|one| one["valueFrom"]["secretKeyRef"]["key"].as_str())
    {
        assert!(SECRET_KEYS.contains(&variable), "{variable}");
    }
    check_flags(container, &mounts);
}

/// Holds that the program takes the flags, and that the files they name are in volumes.
fn check_flags(container: &Value, mounts: &BTreeMap<&str, &str>) {
    let arguments: Vec<String> = array(&container["args"])
        .map(|argument| {
            SEED.iter().fold(text(argument).to_owned(), |text, (from, to)| text.replace(from, to))
        })
        .collect();
    for path in arguments.iter().filter_map(|argument| argument.split_once("=/etc/")) {
        let path = format!("/etc/{}", path.1);
        assert!(mounts.keys().any(|dir| Path::new(&path).starts_with(dir)), "{path}: {mounts:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    // The flags are read from left to right: help is what it says only if it takes those before.
    let said = finish(ocipfs(dir.path()).args(&arguments).arg("--help"));
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
}

/// Whether labels are as a selector wants them.
fn contains(labels: &Value, selector: &Value) -> bool {
    selector
        .as_object()
        .is_some_and(|all| !all.is_empty() && all.iter().all(|(key, value)| labels[key] == *value))
}

fn ports(workload: &Value) -> BTreeSet<&str> {
    let containers = array(&workload["spec"]["template"]["spec"]["containers"]);
    containers.flat_map(|one| array(&one["ports"])).map(|port| text(&port["name"])).collect()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}"))
}

async fn the_manifests_without_helm_fit_together() {
    check(&yaml::documents(&fs::read_to_string(file("bootstrap/kubernetes/ocipfs.yaml")).unwrap()));
}

async fn the_secret_of_a_swarm_holds_the_seed_that_it_names() {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let program = Path::new(env!("CARGO_BIN_EXE_ocipfs")).parent().unwrap();
    let mut make = script("bootstrap/kubernetes/secret");
    let made = make.env("PATH", format!("{}:{}", program.display(), search_path())).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let secret = yaml::documents(&String::from_utf8(made.stdout).unwrap()).remove(0);
    let data = secret["data"].as_object().unwrap();
    assert_eq!(data.keys().map(String::as_str).collect::<BTreeSet<_>>(), SECRET_KEYS.into());
    let of = |key: &str| STANDARD.decode(text(&data[key])).unwrap();

    // As volumes show it: the identity in the node directory, the key next to it.
    let dir = tempfile::tempdir().unwrap();
    let (node, key) = (dir.path().join("node"), dir.path().join("swarm.key"));
    fs::create_dir(&node).unwrap();
    fs::write(node.join("identity.key"), of("seed.key")).unwrap();
    fs::write(&key, of("swarm.key")).unwrap();
    let key = key.to_str().unwrap();
    let seed = Serve::start_in(&node, &["--swarm-key", key]);
    assert_eq!(seed.peer().as_bytes(), of("seed.peer"));
    let address = seed.address().replace("/ip4/127.0.0.1/", "/dns/localhost/");
    let name = String::from_utf8(of("seed.name")).unwrap();
    let pod = Serve::start(&["--swarm-key", key, "--allow-dns", "--peer", &address, "--follow", &name]);
    let image = Image::with_layer("pushed to the seed", noise(1000));
    push(&seed, "team/app", "1", &image).await;
    known(&pod, "team/app", "1", &image).await;
}

async fn the_settings_of_the_build_farm_are_read() {
    for host in ["builder", "store", "runner"] {
        let dir = tempfile::tempdir().unwrap();
        let settings = fs::read_to_string(file(&format!("bootstrap/farm/{host}.toml"))).unwrap();
        let more = "bootstrap = \"none\"\nswarm-listen = [\"/ip4/127.0.0.1/tcp/0\"]\n";
        fs::write(dir.path().join("config.toml"), format!("{more}{settings}")).unwrap();
        assert!(Serve::start_in(dir.path(), &[]).stop().success(), "{host}");
    }
}
