//! Over a real connection: what a client without our types sees.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Api, sending};

/// Serves the API for as long as the request takes, and gives back everything that came.
async fn exchange(api: &Api, request: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = axum::serve(listener, api.router.clone());
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    tokio::select! {
        answer = client => answer,
        ended = async move { serving.await } => panic!("the server ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_sending_is_accepted_over_a_connection() {
    let api = Api::new().await;
    let body = sending(&["01012345678"]).to_string();
    let request = format!(
        "POST /v1/sendings HTTP/1.1\r\nHost: kite\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        api.acme,
        body.len()
    );
    let answer = exchange(&api, &request).await;
    assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    assert!(answer.contains("\r\nlocation: /v1/sendings/"), "{answer}");
    assert!(answer.contains("\r\nkite-position: "), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_while_it_arrives() {
    let config = kite_api::ApiConfig { sending_body_bytes_max: 100, ..Default::default() };
    let api = Api::with(config, Default::default()).await;
    let events = api.events().await;
    let chunk = "x".repeat(0x100);
    let request = format!(
        "POST /v1/sendings HTTP/1.1\r\nHost: kite\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n100\r\n{chunk}\r\n0\r\n\r\n",
        api.acme
    );
    let answer = exchange(&api, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("body-too-large"), "{answer}");
    assert_eq!(api.events().await, events);
}
