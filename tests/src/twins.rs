use std::{error::Error, fmt};

use layer_store::conformance::twins::{Answer, Connection};

use crate::RedisServer;

/// A connection on which [`Twins`](layer_store::conformance::twins::Twins) runs a program's Lua body.
pub struct RedisConnection(redis::Connection);

impl RedisConnection {
    /// Connects to `server`.
    pub fn new(server: &RedisServer) -> Self {
        Self(server.raw())
    }
}

impl Connection for RedisConnection {
    async fn send(&mut self, command: &[&[u8]]) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let mut packed = redis::Cmd::new();
        packed.arg(command);
        answer(packed.query(&mut self.0)?)
    }
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection").finish_non_exhaustive()
    }
}

fn answer(value: redis::Value) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    Ok(match value {
        redis::Value::Nil => Answer::Nil,
        redis::Value::Int(number) => Answer::Int(number),
        redis::Value::BulkString(bytes) => Answer::Bytes(bytes),
        redis::Value::SimpleString(status) => Answer::Bytes(status.into_bytes()),
        redis::Value::Okay => Answer::Bytes(b"OK".to_vec()),
        redis::Value::Array(values) => {
            Answer::List(values.into_iter().map(answer).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("{other:?} is no reply of a program").into()),
    })
}
