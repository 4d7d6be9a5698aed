//! helm: charts.

use std::{fs, path::Path};

use libtest_mimic::Trial;

use super::{Nodes, manifest, whole};
use crate::{
    clients::{Client, HELM},
    harness::{blocking, trials},
};

pub fn trials() -> Vec<Trial> {
    trials![needs HELM.available(); charts_of_helm_are_pushed_and_pulled_from_a_follower]
}

/// Makes and packages a chart of this version, and returns the file.
pub fn package(helm: &Client, version: &str) -> String {
    let chart = helm.path("chart");
    if !Path::new(&chart).exists() {
        helm.run(&["create", &chart]).unwrap();
    }
    helm.run(&["package", "--version", version, "--destination", &helm.path(""), &chart]).unwrap();
    helm.path(&format!("chart-{version}.tgz"))
}

async fn charts_of_helm_are_pushed_and_pulled_from_a_follower() {
    blocking(|| {
        let (nodes, helm) = (Nodes::start(), HELM.start().unwrap());
        let charts = format!("oci://{}/charts", nodes.publisher.registry());
        // A tag cannot have `+`: helm writes `_` instead, and reads it back.
        let versions = ["0.1.0", "0.2.0-rc.1", "1.0.0+build.5"];
        let packages = versions.map(|version| package(&helm, version));
        // A provenance file beside a chart is a layer of the same manifest.
        fs::write(format!("{}.prov", packages[0]), "a signature\n").unwrap();
        for file in &packages {
            helm.run(&["push", "--plain-http", file, &charts]).unwrap();
        }
        for tag in ["0.1.0", "0.2.0-rc.1", "1.0.0_build.5"] {
            whole(&nodes.publisher, "charts/chart", tag);
        }
        let (_, chart) = manifest(&nodes.publisher, "charts/chart", "0.1.0");
        assert_eq!(chart["config"]["mediaType"], "application/vnd.cncf.helm.config.v1+json");
        assert_eq!(chart["layers"].as_array().map(Vec::len), Some(2), "{chart}");
        let (follower, dir) = nodes.orphan();
        let chart = format!("oci://{}/charts/chart", follower.registry());
        let to = dir.path().display().to_string();
        for (version, pushed) in versions.into_iter().zip(&packages) {
            helm.run(&["pull", "--plain-http", &chart, "--version", version, "--destination", &to]).unwrap();
            let pulled = dir.path().join(format!("chart-{version}.tgz"));
            assert!(fs::read(pulled).unwrap() == fs::read(pushed).unwrap(), "{version}");
        }
        helm.run(&["pull", "--plain-http", "--prov", &chart, "--version", "0.1.0", "--destination", &to])
            .unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("chart-0.1.0.tgz.prov")).unwrap(), "a signature\n");
        // A range of versions is looked up in the tags, which is the newest of them without a suffix.
        let shown = helm.run(&["show", "chart", "--plain-http", &chart, "--version", "^0.1"]).unwrap();
        assert!(shown.contains("version: 0.1.0"), "{shown}");
        let shown = helm.run(&["show", "chart", "--plain-http", &chart]).unwrap();
        assert!(shown.contains("version: 1.0.0+build.5"), "{shown}");
        helm.run(&["template", "--plain-http", "release", &chart]).unwrap();
    })
    .await;
}
