//! Names of images in a file: one to a line, or in the YAML of Kubernetes, Compose, Helm's output, Hauler and oc-mirror.

use std::collections::HashMap;

use ocipfs_oci::Platform;
use saphyr_parser::{Event, Parser};

/// The largest file.
pub const MAX_LIST_BYTES: u64 = 16 << 20;
/// Mappings and sequences within each other.
const MAX_DEPTH: usize = 256;
/// Keys of lists whose entries have an image as `name`.
const LISTS_BY_NAME: [&str; 2] = ["images", "additionalImages"];

/// An image that a file lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedImage {
    /// A reference, or a pattern.
    pub reference: String,
    /// The platforms that are wanted of it; all if there are none.
    pub platforms: Vec<Platform>,
}

/// Reads the images of a file, each once.
///
/// # Errors
/// Fails with a description of the line, if it is neither a list nor YAML.
pub fn parse_list(text: &str) -> Result<Vec<ListedImage>, String> {
    let listed = if is_yaml(text) { yaml(text) } else { lines(text) }?;
    let mut images: Vec<ListedImage> = Vec::new();
    for image in listed {
        if !images.contains(&image) {
            images.push(image);
        }
    }
    Ok(images)
}

/// Reads platforms that are separated by commas.
pub fn parse_platforms(text: &str) -> Result<Vec<Platform>, String> {
    let parse =
        |text: &str| text.trim().parse().map_err(|error: ocipfs_oci::platform::Error| error.to_string());
    text.split(',').map(parse).collect()
}

/// Whether some line has a key, which no line of a list has: in `name:tag` no space follows the colon.
fn is_yaml(text: &str) -> bool {
    let is_key = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim();
        let key = line.split_once(':');
        line.starts_with(['{', '[']) || line == "---" || {
            key.is_some_and(|(key, rest)| {
                !key.contains(char::is_whitespace) && (rest.is_empty() || rest.starts_with(' '))
            })
        }
    };
    text.lines().filter(|line| !line.trim_start().starts_with('#')).any(is_key)
}

/// Reads `REFERENCE [PLATFORM,...]` of each line; `#` begins a comment.
fn lines(text: &str) -> Result<Vec<ListedImage>, String> {
    let mut images = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(line, _)| line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = |why: String| format!("line {}: {why}", number + 1);
        match words[..] {
            [] => {}
            [reference] => images.push(ListedImage { reference: reference.into(), platforms: Vec::new() }),
            [reference, platforms] => {
                let platforms = parse_platforms(platforms).map_err(at)?;
                images.push(ListedImage { reference: reference.into(), platforms });
            }
            _ => return Err(at(format!("expected a reference and platforms, found {line:?}"))),
        }
    }
    Ok(images)
}

/// A mapping or a sequence that is being read.
#[derive(Default)]
struct Frame {
    is_mapping: bool,
    /// The key whose value is read: of a sequence, the key that it is the value of.
    key: Option<String>,
    image: Option<String>,
    name: Option<String>,
    platforms: Vec<String>,
    /// Whether it is an entry of a list of images.
    is_listed: bool,
}

/// Reads the values of all `image:` keys, and the lists of images of other tools.
fn yaml(text: &str) -> Result<Vec<ListedImage>, String> {
    let mut reader = YamlReader::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        match event {
            Event::Scalar(text, _, anchor, _) => {
                if anchor > 0 {
                    reader.anchors.insert(anchor, text.to_string());
                }
                reader.scalar(&text);
            }
            Event::Alias(anchor) => {
                let text = reader.anchors.get(&anchor).cloned().unwrap_or_default();
                reader.scalar(&text);
            }
            Event::MappingStart(..) => reader.begin(true)?,
            Event::SequenceStart(..) => reader.begin(false)?,
            Event::MappingEnd | Event::SequenceEnd => reader.end()?,
            _ => {}
        }
    }
    Ok(reader.images)
}

#[derive(Default)]
struct YamlReader {
    frames: Vec<Frame>,
    /// Texts that aliases stand for.
    anchors: HashMap<usize, String>,
    images: Vec<ListedImage>,
}

impl YamlReader {
    fn begin(&mut self, is_mapping: bool) -> Result<(), String> {
        if self.frames.len() >= MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        let mut frame = Frame { is_mapping, ..Frame::default() };
        if let Some(above) = self.frames.last_mut() {
            // A key that is not text takes a value, too.
            let key =
                if above.is_mapping { above.key.take().or(Some(String::new())) } else { above.key.clone() };
            match is_mapping {
                true => {
                    let listed = key.is_some_and(|key| LISTS_BY_NAME.contains(&key.as_str()));
                    frame.is_listed = !above.is_mapping && listed;
                }
                false => frame.key = key,
            }
        }
        self.frames.push(frame);
        Ok(())
    }

    fn scalar(&mut self, text: &str) {
        let Some(frame) = self.frames.last_mut() else { return };
        if !frame.is_mapping {
            if frame.key.as_deref() == Some("platforms")
                && let Some(above) = self.frames.iter_mut().rev().nth(1)
            {
                above.platforms.push(text.into());
            }
            return;
        }
        match frame.key.take().as_deref() {
            None => frame.key = Some(text.into()),
            Some("image") => frame.image = Some(text.into()),
            Some("name") => frame.name = Some(text.into()),
            Some("platform") => frame.platforms.push(text.into()),
            Some(_) => {}
        }
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(Frame { image, name, platforms, is_listed, .. }) = self.frames.pop() else { return Ok(()) };
        let reference = image.or(name.filter(|_| is_listed));
        let Some(reference) = reference.filter(|text| !text.trim().is_empty()) else { return Ok(()) };
        let parsed = platforms.iter().map(|text| parse_platforms(text)).collect::<Result<Vec<_>, _>>();
        let platforms = parsed.map_err(|why| format!("image {reference}: {why}"))?.concat();
        self.images.push(ListedImage { reference: reference.trim().into(), platforms });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<String> {
        let show = |image: ListedImage| {
            let platforms: Vec<String> = image.platforms.iter().map(Platform::to_string).collect();
            format!("{} {}", image.reference, platforms.join(",")).trim_end().to_string()
        };
        parse_list(text).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn a_list_has_one_image_to_a_line_with_its_platforms() {
        let text = "# ours\nteam/app:1.0\n\nteam/db:v*  linux/amd64,linux/arm64/v8 # two\n  team/*\nteam/app:1.0\n\
                    registry.corp:5000/x@sha256:0011\n";
        let expected = [
            "team/app:1.0",
            "team/db:v* linux/amd64,linux/arm64/v8",
            "team/*",
            "registry.corp:5000/x@sha256:0011",
        ];
        assert_eq!(listed(text), expected);
        assert!(listed("# nothing\n\n").is_empty());
        for (text, told) in [("a b c", "line 1"), ("a\nb linux", "line 2")] {
            assert!(parse_list(text).unwrap_err().contains(told), "{text}");
        }
    }

    #[test]
    fn images_of_kubernetes_compose_and_helm_are_found_by_their_image_keys() {
        let kubernetes = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {image: label}}
spec:
  template:
    spec:
      initContainers:
        - name: init
          image: &base "team/init:1"
      containers:
        - {name: web, image: docker.io/library/nginx:1.27}
        - name: again
          image: *base
---
# Source: chart/templates/job.yaml
kind: Job
spec: {template: {spec: {containers: [{image: 'team/job@sha256:00'}]}}}
"#;
        let expected = ["label", "team/init:1", "docker.io/library/nginx:1.27", "team/job@sha256:00"];
        assert_eq!(listed(kubernetes), expected);
        let compose =
            "services:\n  web:\n    image: team/app:1\n    platform: linux/arm64\n  db:\n    build: .\n";
        assert_eq!(listed(compose), ["team/app:1 linux/arm64"]);
        let json = r#"{"kind": "Pod", "spec": {"containers": [{"name": "x", "image": "team/app:2"}]}}"#;
        assert_eq!(listed(json), ["team/app:2"]);
        let values = "image:\n  repository: team/app\n  tag: 1\nother: [image, x]\n";
        assert!(listed(values).is_empty(), "the values of a chart are not its output");
    }

    #[test]
    fn lists_of_hauler_and_oc_mirror_are_read() {
        let hauler = "kind: Images\nspec:\n  images:\n    - name: team/app:1\n      platform: linux/amd64\n    - name: team/db:2\n";
        assert_eq!(listed(hauler), ["team/app:1 linux/amd64", "team/db:2"]);
        let mirror =
            "mirror:\n  additionalImages:\n  - name: team/app:1\n    platforms: [linux/amd64, linux/arm64]\n";
        assert_eq!(listed(mirror), ["team/app:1 linux/amd64,linux/arm64"]);
    }

    #[test]
    fn yaml_that_is_broken_or_nested_too_deeply_is_rejected() {
        assert!(parse_list("image: \"team/app\nx: [").is_err());
        let deep = format!("a: {}{}", "[".repeat(300), "]".repeat(300));
        assert!(parse_list(&deep).is_err());
        assert!(parse_list("image: team/app\nplatform: nonsense\n").unwrap_err().contains("team/app"));
    }
}
