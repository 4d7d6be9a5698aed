//! Names and addresses of this machine, without a DNS query: a private node asks no resolver.

use std::net::IpAddr;

const HOSTS: &str = "/etc/hosts";
/// A longer file, such as a list of blocked domains, is read up to here.
const MAX_HOSTS_BYTES: u64 = 1 << 20;

/// Whether a host of a URL is a loopback address, `localhost` (RFC 6761, section 6.3) or one of `own_names`.
pub fn is_loopback(host: &str, own_names: &[String]) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || own_names.contains(&name)
}

/// The machine's own names that resolve to loopback.
pub fn own_names() -> Vec<String> {
    use std::io::Read;
    let mut text = Vec::new();
    let read = std::fs::File::open(HOSTS).and_then(|file| file.take(MAX_HOSTS_BYTES).read_to_end(&mut text));
    match read {
        Ok(_) => {
            names_of(&rustix::system::uname().nodename().to_string_lossy(), &String::from_utf8_lossy(&text))
        }
        Err(_) => Vec::new(),
    }
}

/// Finds the lines of a hosts file that give loopback to a machine: all names in them are its own.
fn names_of(machine: &str, hosts: &str) -> Vec<String> {
    let names = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        let names: Vec<String> = words.map(str::to_ascii_lowercase).collect();
        let is_own = address.is_loopback() && names.iter().any(|name| name.eq_ignore_ascii_case(machine));
        is_own.then_some(names)
    };
    hosts.lines().filter_map(names).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_host_names_are_read_from_the_loopback_lines_of_etc_hosts() {
        let hosts = "# 127.0.0.1 box\n127.0.0.1 localhost blocked.example\n127.0.1.1\tbox.example Box # here\n\
                     192.0.2.1 box lan.example\n::1 box box6\nnonsense box\n";
        assert_eq!(names_of("box", hosts), ["box.example", "box", "box", "box6"]);
        assert!(names_of("other", hosts).is_empty() && names_of("box", "192.0.2.1 box").is_empty());
    }
}
