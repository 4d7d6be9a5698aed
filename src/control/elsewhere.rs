//! Tells a command that works on a node directory without a running node that clients will reach another node.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Failure, ImageRequest, LayerRequest, Note, Options, Request};

/// How long a registry on this machine may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Bytes of a response in which its headers are.
const HEAD_BYTES: u64 = 4096;

/// Fails where a registry answers at the address of this node and the user did not choose the directory: the node that they
/// mean uses another one. For a chosen directory, references that the registry does not serve are worth the warning that is returned.
pub async fn check(
    request: &Request,
    options: &Options,
    is_default_dir: bool,
) -> Result<Option<Note>, Failure> {
    if !(is_default_dir || prints_references(request)) || !is_registry(&options.listen).await {
        return Ok(None);
    }
    let (dir, registry) = (options.data_dir.display(), &options.listen);
    let message = format!("no node is running in {dir}, but a registry answers on {registry}");
    if is_default_dir {
        return Err(Failure::new(message).hint(format!(
            "name the directory of that node with --data-dir or OCIPFS_DATA_DIR (the systemd service has \
             /var/lib/ocipfs), or this one with --data-dir {dir}"
        )));
    }
    Ok(Some(Note::Warning(format!("{message}: clients cannot pull this reference from it"))))
}

fn prints_references(request: &Request) -> bool {
    matches!(
        request,
        Request::Image(
            ImageRequest::Import { .. }
                | ImageRequest::Convert { .. }
                | ImageRequest::ConvertPlatforms { .. }
                | ImageRequest::Tag { .. }
        ) | Request::Layer(LayerRequest::Add { .. } | LayerRequest::Index { .. })
    )
}

/// Whether an OCI registry answers at `address`; one with TLS answers a request without it by an error that says so.
pub async fn is_registry(address: &str) -> bool {
    let head = timeout(ANSWER_TIMEOUT, head(address)).await;
    head.is_ok_and(|head| head.is_ok_and(|head| head.contains("docker-distribution-api-version")))
}

/// The beginning of the response, in lower case.
async fn head(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    stream.take(HEAD_BYTES).read_to_end(&mut head).await?;
    Ok(String::from_utf8_lossy(&head).to_lowercase())
}
