//! One question, one answer, over HTTP/1.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::debug;

use super::question::{Answer, Question, Request};

/// How long a request's head may take to arrive.
const HEAD: Duration = Duration::from_secs(5);

/// The largest head of a request in octets; the least that the library takes.
const HEAD_MAX: usize = 8192;

/// How long the loop may take to answer.
const LOOP: Duration = Duration::from_secs(5);

/// Takes a request and answers it. What a request brings along is not read.
pub async fn converse<S>(stream: S, asked: &'static [Question], asking: mpsc::Sender<Request>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let asking = asking.clone();
        async move { Ok::<_, Infallible>(respond(&method, &path, asked, &asking).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        debug!("a connection ended: {error}");
    }
}

async fn respond(
    method: &Method,
    path: &str,
    asked: &[Question],
    asking: &mpsc::Sender<Request>,
) -> Response<Full<Bytes>> {
    let Some(question) = asked.iter().copied().find(|question| question.path() == path) else {
        let paths: Vec<&str> = asked.iter().map(|question| question.path()).collect();
        let text = format!("there is {}\n", paths.join(", "));
        return response(StatusCode::NOT_FOUND, Answer::text(false, text));
    };
    if method != Method::GET && method != Method::HEAD {
        let text = Answer::text(false, "use GET\n".to_owned());
        let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, text);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match timeout(LOOP, ask(question, asking)).await {
        Ok(Some(answer)) if answer.good => response(StatusCode::OK, answer),
        Ok(Some(answer)) => response(StatusCode::SERVICE_UNAVAILABLE, answer),
        Ok(None) | Err(_) => {
            let text = Answer::text(false, format!("the daemon's loop has not answered within {LOOP:?}\n"));
            response(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

/// Asks the loop; nothing comes back when it has ended.
async fn ask(question: Question, asking: &mpsc::Sender<Request>) -> Option<Answer> {
    let (reply, answer) = oneshot::channel();
    asking.send(Request { question, reply }).await.ok()?;
    answer.await.ok()
}

fn response(status: StatusCode, answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.media));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
