//! A client of Socket.IO, by hand: what it says and hears is what is on the wire.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{ClientRequestBuilder, Error, Message, http::StatusCode},
};

pub const QUERY: &str = "EIO=4&transport=websocket";

pub struct Client {
    socket: WebSocketStream<TcpStream>,
    asked: u64,
}

/// How a connection went on to its end.
#[derive(Debug, PartialEq)]
pub struct Ended {
    pub heard: Vec<String>,
    /// The code of the last frame; nothing where the connection was just cut.
    pub code: Option<u16>,
}

impl Client {
    /// Opens a connection to a tenant's host, without a token; or the status that refuses it.
    pub async fn open(at: SocketAddr, host: &str, query: &str, headers: &[(&str, &str)]) -> Result<Self, StatusCode> {
        let uri = format!("ws://{host}/socket.io/?{query}").parse().unwrap();
        let request = headers
            .iter()
            .fold(ClientRequestBuilder::new(uri), |request, (name, value)| request.with_header(*name, *value));
        let stream = TcpStream::connect(at).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => {
                let mut client = Self { socket, asked: 0 };
                let open = client.hear().await;
                assert!(open.starts_with("0{\"sid\":\""), "{open}");
                Ok(client)
            }
            Err(Error::Http(answer)) => Err(answer.status()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens a connection to acme and shows a token; gives what is answered to that.
    pub async fn show(at: SocketAddr, token: &str) -> (Self, String) {
        let mut client = Self::open(at, "acme.test", QUERY, &[]).await.unwrap();
        client.say(&format!("40{}", json!({ "token": token }))).await;
        let answer = client.hear().await;
        (client, answer)
    }

    /// The same with a token that is good.
    pub async fn join(at: SocketAddr, token: &str) -> Self {
        let (client, answer) = Self::show(at, token).await;
        assert!(answer.starts_with("40{\"sid\":\""), "{answer}");
        client
    }

    pub async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn send(&mut self, message: Message) {
        // The other side may have gone.
        let _ = self.socket.send(message).await;
    }

    /// The next packet.
    pub async fn hear(&mut self) -> String {
        match self.next().await {
            Ok(text) => text,
            Err(code) => panic!("the connection ended: {code:?}"),
        }
    }

    /// The next packet, which is news of a user; gives the user.
    pub async fn hear_of(&mut self, room: &str) -> Value {
        let text = self.hear().await;
        let [event, news] = serde_json::from_str(text.strip_prefix("42").unwrap_or_else(|| panic!("{text}"))).unwrap();
        let mut news: Value = news;
        assert_eq!((event, &news["room"]), (json!("user-updated"), &json!(room)), "{text}");
        news["user"].take()
    }

    /// Sends an event and gives its acknowledgement.
    pub async fn ask(&mut self, event: &str, argument: &Value) -> Value {
        self.asked += 1;
        self.say(&format!("42{}{}", self.asked, json!([event, argument]))).await;
        let answer = self.hear().await;
        let answer = answer.strip_prefix(&format!("43{}", self.asked)).unwrap_or_else(|| panic!("{answer}"));
        serde_json::from_str::<Value>(answer).unwrap()[0].clone()
    }

    /// Whether the connection is there: it answers.
    pub async fn answers(&mut self) {
        assert_eq!(self.ask("no-such-event", &Value::Null).await["error"]["code"], "UNKNOWN_EVENT");
    }

    /// What is heard until the connection ends.
    pub async fn end(mut self) -> Ended {
        let mut heard = vec![];
        loop {
            match self.next().await {
                Ok(text) => heard.push(text),
                Err(code) => return Ended { heard, code },
            }
        }
    }

    /// Hears that its session ended, and nothing else; no client comes back by itself after that.
    pub async fn hears_end(self, reason: &str) {
        let said = format!("42{}", json!(["session-ended", { "reason": reason }]));
        assert_eq!(self.end().await, Ended { heard: vec![said, "41".into()], code: Some(1008) });
    }

    async fn next(&mut self) -> Result<String, Option<u16>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }
}
