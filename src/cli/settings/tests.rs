use ocipfs_node::{Bootstrap, Dns};

use super::{
    options::{bootstrap, dns},
    *,
};

fn file(text: &str) -> Result<Settings, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn the_config_file_has_the_names_of_the_flags_and_rejects_others() {
    let settings = file(
        r#"
        listen = "127.0.0.1:6000"
        swarm-listen = ["/ip4/127.0.0.1/tcp/0"]
        bootstrap = "none"
        peer = "/ip4/127.0.0.1/tcp/1"
        log-format = "json"
        access-log = true
        admin-listen = "localhost:5060"
        drain-delay = "500ms"
        find-timeout = "3s"
        profile = "legacy"
        dns-resolver = ["127.0.0.1", "[::1]:5353"]
        cache-size = "10GiB"
        max-size = 4096
        max-memory = "64MiB"
        share = "added"
        pull = "users"
        prefetch = "all"
        follow = ["k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"]
        upload-grace = "2h"
        keep-untagged = "0s"
        mdns = false
        swarm-admin = "12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh"
        retention = [{ repositories = "team/*", keep-tags = 10, keep-days = 30 }]
        "#,
    )
    .unwrap();
    assert_eq!(settings.listen().port(), 6000);
    assert_eq!(settings.find_timeout, Some("3s".parse().unwrap()));
    assert_eq!(settings.profile, Some(Profile::Legacy));
    let servers = ["127.0.0.1:53", "[::1]:5353"].map(|text| text.parse().unwrap());
    assert_eq!(dns(settings.dns_resolver.as_deref()), Dns::Servers(servers.to_vec()));
    assert!(file("dns-resolver = [\"dns.example\"]").unwrap_err().to_string().contains("invalid DNS server"));
    assert_eq!(settings.content().cache_size, Some(10 << 30));
    assert_eq!(settings.content().max_size, Some(4096));
    assert_eq!(settings.content().memory.bytes(), 64 << 20);
    assert!(file("max-memory = \"1MiB\"").unwrap_err().to_string().contains("too small"));
    let policy = settings.policy();
    assert_eq!((policy.upload_grace.as_secs(), policy.keep_untagged), (7200, std::time::Duration::ZERO));
    assert_eq!(policy.retention, ["team/*=10,30d".parse().unwrap()]);
    assert!(file("cache-size = \"much\"").is_err());
    assert!(settings.access().is_err(), "--pull users, and there are no users");
    assert!(file("pull = \"nobody\"").unwrap_err().to_string().contains("everybody"));
    let naming = settings.naming(SharePolicy::All);
    assert_eq!((naming.share, naming.follow.len(), naming.prefetch), (SharePolicy::Added, 1, Prefetch::All));
    assert!(file("follow = [\"nonsense\"]").is_err());
    assert!(file("liste = 1").unwrap_err().to_string().contains("unknown field"));
    assert_eq!(bootstrap(settings.bootstrap.as_deref(), false).unwrap(), Bootstrap::None);
    assert_eq!((settings.peer.as_ref().unwrap().len(), settings.log_format()), (1, LogFormat::Json));
    assert!(settings.access_log() && settings.swarm_admin.is_some() && settings.mdns == Some(false));
    assert_eq!(settings.admin_listen(), "127.0.0.1:5060".parse().ok());
    assert_eq!(settings.drain_delay().as_millis(), 500);
    let default = |text| file(text).unwrap().drain_delay().as_secs();
    assert_eq!((default(""), default("admin-listen = \":5060\"")), (0, 2));
    assert!(file("find-timeout = \"soon\"").is_err());
    assert!(file("profile = \"v9\"").is_err());
}

#[test]
fn every_serve_flag_is_a_config_file_key_and_an_environment_variable() {
    use clap::CommandFactory;
    for argument in Environment::command().get_arguments().filter(|a| a.get_env().is_some()) {
        let name = argument.get_long().unwrap();
        let env = argument.get_env().unwrap().to_str().unwrap();
        assert_eq!(env, format!("OCIPFS_{}", name.to_uppercase().replace('-', "_")));
        let error = file(&format!("{name} = 1.5")).unwrap_err().to_string();
        assert!(!error.contains("unknown field"), "{name}: {error}");
    }
}

#[test]
fn bootstrap_is_public_none_or_peers() {
    let given = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(bootstrap(None, false).unwrap(), Bootstrap::Public);
    assert_eq!(bootstrap(None, true).unwrap(), Bootstrap::None);
    assert_eq!(bootstrap(Some(&given(&["none"])), false).unwrap(), Bootstrap::None);
    assert_eq!(bootstrap(Some(&given(&["public"])), true).unwrap(), Bootstrap::Public);
    let two = bootstrap(Some(&given(&["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"])), false).unwrap();
    assert!(matches!(two, Bootstrap::Peers(peers) if peers.len() == 2));
    assert!(matches!(bootstrap(Some(&given(&["somewhere"])), false), Err(Exit::Usage(_))));
}
