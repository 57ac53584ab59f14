use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use layer_store::{
    Arg, Clock, Context, ErrorKind, Key, Op, Output, Reply, Store, StoreError, StoreInfo, Value,
};

use crate::RedisServer;

/// A real Redis on a clock that a test moves: it runs the programs' Lua bodies as they ship, but `TIME` replies that clock, and no value
/// is dropped by the server's own. Knows programs and deletes, and nothing else.
pub struct ClockedRedis {
    connection: Mutex<redis::Connection>,
    clock: Clock,
}

impl ClockedRedis {
    /// Connects to `server`.
    pub fn new(server: &RedisServer, clock: Clock) -> Self {
        Self {
            connection: Mutex::new(server.raw()),
            clock,
        }
    }

    fn send(&self, command: &redis::Cmd) -> Result<redis::Value, StoreError> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let reply = command.query(&mut connection);
        reply.map_err(|error| StoreError::unknown(ErrorKind::Rejected).with_source(error))
    }

    fn apply(&self, op: &Op<'_>) -> Result<Reply, StoreError> {
        let mut command = redis::Cmd::new();
        match op {
            Op::Run {
                program,
                keys,
                args,
            } => {
                let script = format!("{PRELUDE}{}", program.lua());
                command.arg("EVAL").arg(script).arg(keys.len());
                for key in *keys {
                    command.arg(text(key));
                }
                for arg in *args {
                    match arg {
                        Arg::Int(number) => command.arg(*number),
                        Arg::Bytes(bytes) => command.arg(*bytes),
                        other => panic!("{other:?} is no argument"),
                    };
                }
                command.arg(self.clock.now());
                Ok(Reply::Output(output(self.send(&command)?)))
            }
            Op::DeleteMany(keys) => {
                command.arg("DEL");
                for key in *keys {
                    command.arg(text(key));
                }
                match self.send(&command)? {
                    redis::Value::Int(count) => Ok(Reply::Count(count.unsigned_abs())),
                    other => panic!("{other:?} is no count"),
                }
            }
            _ => Err(StoreError::not_applied(ErrorKind::Unsupported)),
        }
    }
}

impl Store for ClockedRedis {
    async fn call<'a>(&'a self, op: &'a Op<'a>, _: &'a Context) -> Result<Reply, StoreError> {
        self.apply(op)
    }

    fn info(&self) -> StoreInfo {
        let mut info = StoreInfo::new("redis");
        info.shared = true;
        info
    }
}

impl fmt::Debug for ClockedRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockedRedis").finish_non_exhaustive()
    }
}

fn text(key: &Key<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    key.render(&mut out);
    out
}

fn output(reply: redis::Value) -> Output {
    let elements = match reply {
        redis::Value::Array(elements) => elements,
        one => vec![one],
    };
    let mut output = Output::new();
    for element in elements {
        match element {
            redis::Value::Int(number) => output.push_int(number),
            redis::Value::BulkString(bytes) => output.push_value(Value::from(&bytes[..])),
            redis::Value::Nil => output.push_nil(),
            other => panic!("{other:?} is no element of an output"),
        }
    }
    output
}

/// Stands before a program's body, which sees this `redis` and not the last argument. What a program keeps tells when it ends.
const PRELUDE: &str = r"
local redis = (function(server)
  local now = table.remove(ARGV)
  local function call(name, key, ...)
    if name == 'TIME' then
      return {string.sub(now, 1, -7), tostring(tonumber(string.sub(now, -6)))}
    end
    if name == 'SET' then
      local value, px, ms = ...
      assert(px == 'PX' and tonumber(ms) >= 1, 'a value without an end')
      return server.call('SET', key, value)
    end
    return server.call(name, key, ...)
  end
  return setmetatable({call = call, pcall = call}, {__index = server})
end)(redis)
";
