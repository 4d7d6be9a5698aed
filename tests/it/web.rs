//! A web server on loopback with a few documents, which tells what it was asked for.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::StatusCode, http::Uri};
use tokio::{net::TcpListener, task::JoinHandle};

/// Returns the document at a path, or none.
type Documents = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

#[derive(Clone)]
struct Shared {
    documents: Documents,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Runs until it is dropped.
pub struct Web {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Web {
    pub async fn start(documents: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, asked) = (listener.local_addr().expect("an address"), Arc::default());
        let shared = Shared { documents: Arc::new(documents), asked: Arc::clone(&asked) };
        let router = Router::new().fallback(answer).with_state(shared);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, asked, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The paths of the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Shared>, uri: Uri) -> Result<String, StatusCode> {
    shared.asked.lock().unwrap().push(uri.to_string());
    (shared.documents)(uri.path()).ok_or(StatusCode::NOT_FOUND)
}
