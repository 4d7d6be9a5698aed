//! A DNS server on loopback, over UDP and TCP, that knows TXT records, finds hosts on loopback, and counts what it is asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        RData, Record, RecordType,
        rdata::{A, TXT},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

#[derive(Default)]
struct Zone {
    /// Name, without the dot at its end -> time to live in seconds and texts.
    records: Mutex<HashMap<String, (u32, Vec<String>)>>,
    asked: AtomicUsize,
    silent: AtomicBool,
}

pub struct Dns {
    address: SocketAddr,
    zone: Arc<Zone>,
    /// They end with it.
    _tasks: JoinSet<()>,
}

impl Dns {
    pub async fn start() -> Self {
        let (socket, listener) = Self::bind().await;
        let (address, zone) = (socket.local_addr().expect("an address"), Arc::<Zone>::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(zone.clone().run(socket));
        tasks.spawn(zone.clone().run_over_tcp(listener));
        Self { address, zone, _tasks: tasks }
    }

    /// Takes a port of both protocols: clients use either. Another test may have the one for TCP.
    async fn bind() -> (UdpSocket, TcpListener) {
        loop {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            if let Ok(listener) = TcpListener::bind(socket.local_addr().expect("an address")).await {
                return (socket, listener);
            }
        }
    }

    /// Returns the value for `--dns-resolver`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Replaces the records of a name.
    pub fn set(&self, name: &str, ttl: u32, texts: &[&str]) {
        let texts = texts.iter().map(ToString::to_string).collect();
        self.zone.records.lock().unwrap().insert(name.into(), (ttl, texts));
    }

    pub fn remove(&self, name: &str) {
        self.zone.records.lock().unwrap().remove(name);
    }

    /// From now on no client gets an answer, or all do.
    pub fn silence(&self, silent: bool) {
        self.zone.silent.store(silent, Ordering::SeqCst);
    }

    /// How many questions came.
    pub fn asked(&self) -> usize {
        self.zone.asked.load(Ordering::SeqCst)
    }
}

impl Zone {
    async fn run(self: Arc<Self>, socket: UdpSocket) {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.expect("a question");
            if let Some(answer) = self.answered(&buffer[..length]) {
                socket.send_to(&answer, from).await.expect("it is sent");
            }
        }
    }

    async fn run_over_tcp(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            // Until the client leaves.
            let _ = self.talk(stream).await;
        }
    }

    /// Each message has its length before it (RFC 1035, section 4.2.2).
    async fn talk(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut question = vec![0; stream.read_u16().await?.into()];
            stream.read_exact(&mut question).await?;
            if let Some(answer) = self.answered(&question) {
                stream.write_u16(answer.len() as u16).await?;
                stream.write_all(&answer).await?;
            }
        }
    }

    fn answered(&self, question: &[u8]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) {
            return None;
        }
        let question = Message::from_vec(question).expect("a question");
        Some(self.answer(&question).to_vec().expect("an answer"))
    }

    fn answer(&self, question: &Message) -> Message {
        let query = question.query().expect("a query").clone();
        let name = query.name().to_utf8().trim_end_matches('.').to_string();
        let mut answer = Message::new();
        answer.set_id(question.id()).set_message_type(MessageType::Response);
        answer.set_recursion_desired(true).set_recursion_available(true).add_query(query.clone());
        match self.records.lock().unwrap().get(&name) {
            Some((ttl, texts)) if query.query_type() == RecordType::TXT => {
                for text in texts {
                    // A string of a record has 255 bytes at most; longer texts are several.
                    let strings: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
                    let data = RData::TXT(TXT::from_bytes(strings));
                    answer.add_answer(Record::from_rdata(query.name().clone(), *ttl, data));
                }
            }
            Some(_) if query.query_type() == RecordType::A => {
                let data = RData::A(A::new(127, 0, 0, 1));
                answer.add_answer(Record::from_rdata(query.name().clone(), 0, data));
            }
            Some(_) => {}
            None => drop(answer.set_response_code(ResponseCode::NXDomain)),
        }
        answer
    }
}
