use std::{error::Error, fmt};

use layer_store::conformance::twins::{Connection, RedisReply};

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
    async fn send(
        &mut self,
        command: &[&[u8]],
    ) -> Result<RedisReply, Box<dyn Error + Send + Sync>> {
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

fn answer(value: redis::Value) -> Result<RedisReply, Box<dyn Error + Send + Sync>> {
    Ok(match value {
        redis::Value::Nil => RedisReply::Nil,
        redis::Value::Int(number) => RedisReply::Int(number),
        redis::Value::BulkString(bytes) => RedisReply::Bytes(bytes),
        redis::Value::SimpleString(status) => RedisReply::Bytes(status.into_bytes()),
        redis::Value::Okay => RedisReply::Bytes(b"OK".to_vec()),
        redis::Value::Array(values) => {
            RedisReply::List(values.into_iter().map(answer).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("{other:?} is no reply of a program").into()),
    })
}
