//! The conformance suite of the OCI distribution specification, as its authors wrote it.

use std::fs;

use libtest_mimic::Trial;

use crate::{
    clients::CONFORMANCE,
    harness::{Serve, blocking, trials},
};

/// What is off by default.
const OPTIONS: [(&str, &str); 6] = [
    ("OCI_VERSION", "dev"),
    ("OCI_API_BLOBS_DIGEST_HEADER", "true"),
    ("OCI_API_BLOBS_UPLOAD_CANCEL", "true"),
    ("OCI_API_MANIFESTS_DIGEST_HEADER", "true"),
    ("OCI_API_MANIFESTS_TAG_PARAM", "true"),
    ("OCI_DATA_SPARSE", "true"),
];

pub fn trials() -> Vec<Trial> {
    trials![needs CONFORMANCE.available();
        the_conformance_suite_of_the_distribution_specification_passes,
        the_conformance_suite_passes_with_the_options_that_are_off_by_default,
    ]
}

async fn the_conformance_suite_of_the_distribution_specification_passes() {
    conforms(&[], &[], 862).await;
}

async fn the_conformance_suite_passes_with_the_options_that_are_off_by_default() {
    conforms(&["--sparse-images"], &OPTIONS, 1030).await;
}

/// Runs the suite, which has at least so many tests, against a node with these settings.
async fn conforms(settings: &[&str], options: &'static [(&'static str, &'static str)], tests: usize) {
    let node = Serve::start(settings);
    let registry = node.registry().to_owned();
    let report = blocking(move || {
        let mut suite = CONFORMANCE.start().expect("the suite");
        let results = suite.path("results");
        let own =
            [("OCI_REGISTRY", registry.as_str()), ("OCI_TLS", "disabled"), ("OCI_RESULTS_DIR", &results)];
        for (variable, value) in own.iter().chain(options) {
            suite.set(variable, value);
        }
        // The report says what has failed.
        let _ = suite.run(&[]);
        fs::read_to_string(format!("{results}/junit.xml")).expect("a report")
    })
    .await;
    let cases: Vec<&str> = report.lines().filter(|line| line.contains("<testcase ")).collect();
    let failed: Vec<_> = cases.iter().filter(|case| !is_passed(case)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let counted = report.split("tests=\"").nth(1).and_then(|rest| rest.split('"').next());
    let counted: usize = counted.and_then(|text| text.parse().ok()).expect("a number of tests");
    assert!(counted >= tests, "{counted} tests");
}

fn is_passed(case: &str) -> bool {
    ["passed", "skipped", "disabled"].iter().any(|status| case.contains(&format!("status=\"{status}\"")))
}
