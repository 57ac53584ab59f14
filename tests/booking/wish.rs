use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use tests::Client;

/// A request for a booking, under a key of its own.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) car: u32,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) key: String,
    pub(crate) user: String,
}

impl Wish {
    pub(crate) fn new(car: u32, from: &str, to: &str) -> Self {
        Self {
            car,
            from: from.into(),
            to: to.into(),
            key: tests::unique(),
            user: "ada".into(),
        }
    }

    pub(crate) fn request(&self) -> Request<String> {
        let Self { from, to, user, .. } = self;
        let body = json!({"from": from, "to": to, "customer": user}).to_string();
        Request::post(format!("/cars/{}/bookings", self.car))
            .header("content-type", "application/json")
            .header("idempotency-key", &self.key)
            .header("x-user", user)
            .body(body)
            .expect("keys and users are ASCII")
    }

    pub(crate) async fn send(&self, client: &mut Client) -> Response<Bytes> {
        client.send(self.request()).await
    }
}

/// The bookings of a car, as its page shows them.
pub(crate) async fn bookings(client: &mut Client, car: u32) -> Vec<Value> {
    let page = client.get(&format!("/cars/{car}/bookings")).await;
    assert_eq!(page.status(), 200);
    serde_json::from_slice(page.body()).expect("the service speaks JSON")
}

pub(crate) fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).expect("the service speaks JSON")
}

pub(crate) fn title(response: &Response<Bytes>) -> String {
    let title = &json_of(response)["title"];
    title.as_str().expect("a problem has a title").into()
}

pub(crate) fn location_of(response: &Response<Bytes>) -> &str {
    let location = &response.headers()["location"];
    location.to_str().expect("paths are ASCII")
}

pub(crate) async fn delete(client: &mut Client, path: &str) -> u16 {
    let request = Request::delete(path).body(String::new());
    let request = request.expect("tests write good paths");
    client.send(request).await.status().as_u16()
}
