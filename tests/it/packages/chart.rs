//! The Helm chart.

use std::fs;

use libtest_mimic::Trial;

use super::{file, manifests, schemas::Schemas, script, yaml};
use crate::{
    clients::{Client, HELM, KUBECONFORM, kubernetes_schemas, search_path},
    harness::{blocking, trials},
};

pub fn trials() -> Vec<Trial> {
    let programs = HELM.available().and_then(|()| KUBECONFORM.available());
    let validated = programs.and_then(|()| kubernetes_schemas().map(drop));
    [
        trials![
            needs HELM.available();
            the_parts_of_the_chart_fit_together_in_every_mode,
            the_manifests_in_bootstrap_are_those_of_the_chart,
            large_numbers_in_values_stay_whole_numbers,
            the_admin_port_is_open_to_the_pods_that_values_name_only,
            a_chart_with_values_that_contradict_each_other_is_refused,
        ],
        trials![needs validated; kubernetes_accepts_the_manifests_of_the_chart],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Values of the chart, and the kinds that it makes of them.
const VARIATIONS: [(&str, &[&str]); 4] = [
    ("mode=daemonset", &["ConfigMap", "DaemonSet", "NetworkPolicy", "Service", "StatefulSet"]),
    ("mode=statefulset,replicas=5", &["ConfigMap", "NetworkPolicy", "Service", "StatefulSet"]),
    (
        "auth.existingSecret=users,auth.pull=users,tls.existingSecret=certificate,serviceMonitor.enabled=true,\
         serviceMonitor.labels.release=prometheus,networkPolicy.peerCIDRs={10.0.0.0/8},podAnnotations.team=images,\
         swarm.peers={/ip4/10.0.0.1/tcp/4001/p2p/12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh},swarm.prefetch=all,\
         extraArgs={--access-log},priorityClassName=system-node-critical,seed.storage.className=fast,\
         imagePullSecrets[0].name=pull,tolerations[0].operator=Exists",
        &["ConfigMap", "DaemonSet", "NetworkPolicy", "Service", "ServiceMonitor", "StatefulSet"],
    ),
    (
        "seed.enabled=false,swarm.existingSecret=,settings=null,networkPolicy.enabled=false,daemonset.hostPort=0",
        &["DaemonSet", "Service"],
    ),
];

/// Renders the chart.
fn render(helm: &Client, values: &str) -> Result<String, String> {
    let chart = file("packaging/helm/ocipfs").display().to_string();
    helm.run(&["template", "site", &chart, "--namespace", "images", "--set", values])
}

async fn the_parts_of_the_chart_fit_together_in_every_mode() {
    blocking(|| {
        let helm = HELM.start().unwrap();
        for (values, kinds) in VARIATIONS {
            let documents = yaml::documents(&render(&helm, values).unwrap());
            let mut found: Vec<_> =
                documents.iter().map(|one| one["kind"].as_str().unwrap().to_owned()).collect();
            found.sort();
            found.dedup();
            assert_eq!(found, kinds, "{values}");
            assert!(documents.iter().all(|one| one["metadata"]["namespace"] == "images"), "{values}");
            manifests::check(&documents);
        }
        let chart = file("packaging/helm/ocipfs").display().to_string();
        helm.run(&["lint", "--strict", &chart]).unwrap();
        helm.run(&["package", &chart, "--destination", &helm.path("")]).unwrap();
    })
    .await;
}

async fn the_manifests_in_bootstrap_are_those_of_the_chart() {
    let dir = tempfile::tempdir().unwrap();
    let rendered = dir.path().join("ocipfs.yaml");
    let helm = HELM.program().parent().unwrap().display().to_string();
    let done = script("bootstrap/kubernetes/render")
        .env("PATH", format!("{helm}:{}", search_path()))
        .arg(&rendered)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let [rendered, kept] =
        [rendered, file("bootstrap/kubernetes/ocipfs.yaml")].map(|path| fs::read(path).unwrap());
    assert!(rendered == kept, "run bootstrap/kubernetes/render");
}

async fn large_numbers_in_values_stay_whole_numbers() {
    blocking(|| {
        let helm = HELM.start().unwrap();
        let chart = file("packaging/helm/ocipfs").display().to_string();
        let values = r#"{"cache-size": 1000000000, "max-peers": 5, "ratio": 0.5, "numbers": [1000000, 2.5], "follow": ["a"]}"#;
        let settings = format!("settings={values}");
        let arguments = ["template", "site", &chart, "--set", "mode=statefulset", "--set-json", "replicas=1000000"];
        let rendered = helm.run(&[&arguments[..], &["--set-json", &settings]].concat()).unwrap();
        for line in [
            "cache-size = 1000000000\n",
            "max-peers = 5\n",
            "ratio = 0.5\n",
            "numbers = [1000000, 2.5]\n",
            "follow = [\"a\"]\n",
            "replicas: 1000000\n",
        ] {
            assert!(rendered.contains(line), "{line}: {rendered}");
        }
    })
    .await;
}

async fn the_admin_port_is_open_to_the_pods_that_values_name_only() {
    blocking(|| {
        let helm = HELM.start().unwrap();
        let admin = |values: &str| {
            let documents = yaml::documents(&render(&helm, values).unwrap());
            let policy = documents.into_iter().find(|one| one["kind"] == "NetworkPolicy").unwrap();
            let rules = policy["spec"]["ingress"].as_array().unwrap().clone();
            let of_admin = |rule: &serde_json::Value| rule["ports"][0]["port"] == "admin";
            rules.into_iter().filter(of_admin).map(|rule| rule["from"].clone()).collect::<Vec<_>>()
        };
        let named = |name: &str| {
            let labels = serde_json::json!({ "kubernetes.io/metadata.name": name });
            serde_json::json!([{ "namespaceSelector": { "matchLabels": labels } }])
        };
        assert_eq!(admin("mode=daemonset"), [named("monitoring")]);
        let label =
            r"networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.kubernetes\.io/metadata\.name=watch";
        assert_eq!(admin(label), [named("watch")]);
        assert!(admin("networkPolicy.metricsFrom=null").is_empty(), "no pod");
    })
    .await;
}

async fn a_chart_with_values_that_contradict_each_other_is_refused() {
    blocking(|| {
        let helm = HELM.start().unwrap();
        for (values, says) in [
            ("swarm.existingSecret=", "bootstrap/kubernetes/secret"),
            ("mode=deployment", "mode"),
            ("daemonset.hostPath=var/lib", "hostPath"),
            ("swarm.peers={10.0.0.1}", "peers"),
            ("unknown=1", "unknown"),
        ] {
            let error = render(&helm, values).expect_err(values);
            assert!(error.contains(says), "{values}: {error}");
        }
    })
    .await;
}

async fn kubernetes_accepts_the_manifests_of_the_chart() {
    blocking(|| {
        let (helm, schemas) = (HELM.start().unwrap(), Schemas::of(KUBERNETES));
        let (conform, location) = (KUBECONFORM.start().unwrap(), schemas.location());
        // Kinds without a schema are errors as well.
        let check = |manifests: &str| conform.run(&["-strict", "-schema-location", &location, manifests]);
        for (values, _) in VARIATIONS {
            let manifests = conform.write("manifests.yaml", &render(&helm, values).unwrap()).unwrap();
            check(&manifests).unwrap_or_else(|error| panic!("{values}: {error}"));
        }
        check(&file("bootstrap/kubernetes/ocipfs.yaml").display().to_string()).unwrap();
        // What is wrong would be seen.
        for (values, right, wrong) in [
            (VARIATIONS[0].0, "hostPort: 5050", "hostport: 5050"),
            (VARIATIONS[0].0, "periodSeconds: 10\n", "periodSeconds: ten\n"),
            (VARIATIONS[0].0, "kind: DaemonSet", "kind: DaemonSets"),
            (VARIATIONS[2].0, "interval: 30s", "interval: soon"),
            (VARIATIONS[2].0, "path: /metrics", "paths: /metrics"),
        ] {
            let rendered = render(&helm, values).unwrap();
            assert!(rendered.contains(right), "{right}: {rendered}");
            let manifests = conform.write("wrong.yaml", &rendered.replace(right, wrong)).unwrap();
            check(&manifests).expect_err(wrong);
        }
    })
    .await;
}

/// The version of Kubernetes whose schemas are used.
const KUBERNETES: &str = "1.30";
