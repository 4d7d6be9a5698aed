use axum::{
    body::Body,
    http::{Request, StatusCode},
};

use super::*;

/// The answer to a request, without a listener.
async fn answer(app: &Router, request: Request<Body>) -> axum::response::Response {
    tower_service::Service::call(&mut app.clone(), request).await.unwrap()
}

/// All commands, as the routes above name them, and one that is none.
fn commands() -> Vec<&'static str> {
    let routes = include_str!("../rpc.rs").split(".route(\"/").skip(1);
    let commands: Vec<&str> = routes.filter_map(|route| Some(route.split_once('"')?.0)).collect();
    assert!(commands.len() > 40 && commands.contains(&"add") && commands.contains(&"swarm/addrs/local"));
    [&commands[..], &["nonsense"]].concat()
}

async fn rpc(dir: &std::path::Path) -> Rpc {
    use crate::{
        content::{Settings, SharePolicy, Store},
        images::repository::Repositories,
        names::followed::Followed,
    };
    let store = Store::open(dir).unwrap();
    let node = ocipfs_node::Node::offline(dir).unwrap();
    let repositories = Repositories::open(&store).unwrap();
    let content = Content::new(store, node.clone(), Settings::default()).unwrap();
    let followed =
        Followed::open(&node, repositories.database().clone(), vec![], Default::default()).await.unwrap();
    let key = node.find_key("self").await.unwrap();
    let publisher = Publisher::new(content.clone(), repositories.clone(), key, SharePolicy::All);
    let resolver = Resolver::new(content, repositories, followed);
    let (events, data_dir) = (Default::default(), dir.into());
    let options =
        Options { resolver, publisher, rules: None, users: None, authorizations: None, events, data_dir };
    Rpc::new(options, "127.0.0.1:5001".parse().unwrap())
}

#[tokio::test]
async fn every_command_is_post_only_and_refuses_pages_of_browsers() {
    let dir = tempfile::tempdir().unwrap();
    let app = router(rpc(dir.path()).await);
    for command in commands() {
        for (method, header, status) in [
            ("GET", None, StatusCode::METHOD_NOT_ALLOWED),
            ("POST", Some(("origin", "http://evil.example")), StatusCode::FORBIDDEN),
            ("GET", Some(("origin", "http://evil.example")), StatusCode::FORBIDDEN),
            ("OPTIONS", Some(("origin", "http://evil.example")), StatusCode::FORBIDDEN),
            ("POST", Some(("origin", "null")), StatusCode::FORBIDDEN),
            ("POST", Some(("referer", "http://evil.example/x")), StatusCode::FORBIDDEN),
            ("POST", Some(("user-agent", "Mozilla/5.0")), StatusCode::FORBIDDEN),
            ("POST", Some(("host", "evil.example")), StatusCode::FORBIDDEN),
        ] {
            let mut request = Request::builder().method(method).uri(format!("/api/v0/{command}"));
            let host = header.filter(|(name, _)| *name == "host").map_or("localhost:5001", |(_, host)| host);
            request = request.header("host", host);
            if let Some((name, value)) = header.filter(|(name, _)| *name != "host") {
                request = request.header(name, value);
            }
            let answer = answer(&app, request.body(Body::empty()).unwrap()).await;
            let status = match (command, status) {
                ("nonsense", StatusCode::METHOD_NOT_ALLOWED) => StatusCode::NOT_FOUND,
                (_, status) => status,
            };
            assert_eq!(answer.status(), status, "{method} {command} {header:?}");
        }
    }
}

#[tokio::test]
async fn an_error_is_an_object_with_message_code_and_type() {
    let dir = tempfile::tempdir().unwrap();
    let app = router(rpc(dir.path()).await);
    for (path, status, expected) in [
        ("cat?arg=nonsense", 500, "{\"Code\":0,\"Message\":\"invalid path"),
        ("cat", 400, "argument \"ipfs-path\" is required\n"),
        ("files/stat?arg=nonsense", 500, "{\"Code\":0,\"Message\":\"paths must start with a leading slash\""),
        ("add?nocopy=true", 400, "{\"Code\":1,\"Message\":\"the option \\\"nocopy\\\" is not supported: "),
        ("add", 400, "file argument \"path\" is required\n"),
        ("nonsense", 404, "404 page not found\n"),
    ] {
        let request = Request::post(format!("/api/v0/{path}")).header("host", "localhost:5001");
        let answer = answer(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let body = String::from_utf8(body.into()).unwrap();
        assert!(body.starts_with(expected), "{path}: {body}");
    }
}
