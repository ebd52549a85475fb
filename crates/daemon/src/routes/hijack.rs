//! The way from a request to a raw stream: what attach and exec have in common.

use crate::http::reply::{Finish, Hijack};
use crate::http::{Call, Reply};

/// Leaves HTTP. A client that asked for the upgrade gets `101`; one of the old kind gets `200` and
/// the same stream, without a length.
///
/// `fields` are further lines of the head.
pub(crate) fn leave_http(call: &Call, content_type: &str, fields: &str, finish: Finish) -> Reply {
    leave(call.wants_upgrade(), content_type, fields, finish)
}

fn leave(upgrade: bool, content_type: &str, fields: &str, finish: Finish) -> Reply {
    let mut head = if upgrade {
        format!(
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        )
    } else {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n")
    };
    head.push_str(fields);
    head.push_str("\r\n");
    Reply::Hijack(Hijack { head: head.into_bytes(), finish })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(upgrade: bool) -> String {
        match leave(upgrade, "application/vnd.docker.raw-stream", "", Box::new(|_| Box::pin(async {}))) {
            Reply::Hijack(hijack) => String::from_utf8(hijack.head).unwrap(),
            Reply::Http(_) => String::new(),
        }
    }

    #[test]
    fn dockerd_s_bytes() {
        assert_eq!(
            head(true),
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: \
             Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        assert_eq!(head(false), "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n");
    }
}
