//! As much of a client of NATS as these tests need: one connection, without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where answers go.
const INBOX: &str = "inbox";

pub(crate) struct Client {
    stream: BufStream<TcpStream>,
    /// What the server has said of itself.
    pub(crate) info: Value,
}

impl Client {
    /// Connects as nobody.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        Self::connect_as(address, json!({})).await
    }

    /// Connects with a login: `user` and `pass`.
    pub(crate) async fn connect_as(address: SocketAddr, mut login: Value) -> Result<Self> {
        let mut client = Self::greeted(address).await?;
        login["verbose"] = json!(false);
        // So that whoever asks nobody hears of it.
        login["headers"] = json!(true);
        login["no_responders"] = json!(true);
        client.say(&format!("CONNECT {login}\r\nSUB {INBOX} 1\r\n")).await?;
        client.ping().await?;
        Ok(client)
    }

    /// Only listens to what the server says of itself.
    pub(crate) async fn greeted(address: SocketAddr) -> Result<Self> {
        let stream = BufStream::new(TcpStream::connect(address).await?);
        let mut client = Self { stream, info: Value::Null };
        let line = client.line().await?;
        client.info = serde_json::from_str(line.strip_prefix("INFO ").context("a greeting")?)?;
        Ok(client)
    }

    /// Waits until the server has seen all that was said.
    pub(crate) async fn ping(&mut self) -> Result<()> {
        self.say("PING\r\n").await?;
        let line = self.line().await?;
        ensure!(line == "PONG", "{line}");
        Ok(())
    }

    /// The answer to a message.
    pub(crate) async fn ask(&mut self, subject: &str, message: &str) -> Result<Value> {
        self.say(&format!("PUB {subject} {INBOX} {}\r\n{message}\r\n", message.len())).await?;
        let line = self.line().await?;
        // `MSG inbox 1 27`, or with headers `HMSG inbox 1 40 40`.
        let length = line.rsplit_once(' ').context("a length")?.1;
        let mut answer = vec![0; length.parse::<usize>()? + 2];
        timeout(PATIENCE, self.stream.read_exact(&mut answer)).await??;
        ensure!(line.starts_with("MSG "), "{subject}: {line}: {}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer)?)
    }

    /// The answer to a message, if it is none of an error.
    pub(crate) async fn insist(&mut self, subject: &str, message: &str) -> Result<Value> {
        let answer = self.ask(subject, message).await?;
        ensure!(answer["error"].is_null(), "{subject} was answered with {answer}");
        Ok(answer)
    }

    async fn say(&mut self, what: &str) -> Result<()> {
        self.stream.write_all(what.as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next line that is more than a question whether this client is there.
    async fn line(&mut self) -> Result<String> {
        loop {
            let mut line = String::new();
            ensure!(
                timeout(PATIENCE, self.stream.read_line(&mut line)).await?? > 0,
                "the connection has ended"
            );
            match line.trim_end() {
                "PING" => self.say("PONG\r\n").await?,
                info if info.starts_with("INFO ") && !self.info.is_null() => {}
                line => return Ok(line.to_owned()),
            }
        }
    }
}
