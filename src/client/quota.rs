//! The user's quotas, and why there is no room for an upload.

use crate::client::connection::ClientConnection;
use crate::client::error::ClientError;
use crate::client::sanitized::Sanitized;
use crate::domain::error::ErrorCode;
use crate::domain::request::QuotaUsage;
use crate::protocol::menu::client::ClientEvent;
use crate::protocol::menu::text;

/// Requests the quotas of the user.
pub(super) fn request_quotas(
    connection: &mut ClientConnection,
) -> Result<Vec<QuotaUsage>, ClientError> {
    connection.send_command(|session, out| {
        session.show_quota(out);
        Ok(())
    })?;
    let count = connection.receive_reply(|event| match event {
        ClientEvent::Quotas(count) => Some(count),
        _ => None,
    })?;
    let mut quotas = Vec::new();
    for _ in 0..count {
        quotas.push(connection.receive_reply(|event| match event {
            ClientEvent::Quota(quota) => Some(quota),
            _ => None,
        })?);
    }
    Ok(quotas)
}

/// Describes why there was no room for `size` bytes at `path`: the quota that is too small with
/// what it has left, or else the server's disk.
pub(super) fn explain_no_room(path: &str, size: u64, quotas: &[QuotaUsage]) -> String {
    let no_room = text::refusal(ErrorCode::NoSpace);
    let directory = path.split('/').next().unwrap_or(path);
    let applying = quotas.iter().filter(|quota| {
        let name = quota.directory.as_deref();
        name.is_none_or(|name| name == directory)
    });
    let is_full = |quota: &&QuotaUsage| quota.files.is_some_and(|(used, limit)| used >= limit);
    let full = applying.clone().find(is_full);
    let too_small = applying
        .map(|quota| (quota.limit.saturating_sub(quota.used), quota))
        .filter(|(left, _)| *left < size)
        .min_by_key(|(left, _)| *left);
    if let (None, Some(quota)) = (too_small, full)
        && let Some((used, limit)) = quota.files
    {
        return format!(
            "{no_room}: {} has {used} of {limit} files and directories; remove some or ask the \
             server's operator",
            name_quota(quota)
        );
    }
    let Some((left, quota)) = too_small else {
        return format!(
            "{no_room}: the server's disk cannot take its {size} bytes, or the server accepts no \
             file of this size; ask the server's operator"
        );
    };
    format!(
        "{no_room}: it has {size} bytes, and {} has {left} of {} bytes left; remove files or \
         ask the server's operator",
        name_quota(quota),
        quota.limit
    )
}

fn name_quota(quota: &QuotaUsage) -> String {
    match &quota.directory {
        Some(name) => format!("the quota of '{}'", Sanitized(name)),
        None => "your quota".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_quota_that_applies_is_named() {
        let quota = |directory: Option<&str>, used, limit| QuotaUsage {
            directory: directory.map(str::to_owned),
            used,
            limit,
            files: None,
        };
        let full = QuotaUsage {
            files: Some((7, 7)),
            ..quota(Some("Many"), 10, 100)
        };
        let quotas = [
            full,
            quota(None, 900, 1_000),
            quota(Some("Uploads"), 95, 100),
            quota(Some("Other"), 1, 1),
        ];
        for (path, size, what) in [
            (
                "Uploads/x",
                6,
                "the quota of 'Uploads' has 5 of 100 bytes left",
            ),
            (
                "Many/x",
                1,
                "the quota of 'Many' has 7 of 7 files and directories;",
            ),
            ("Many/x", 91, "the quota of 'Many' has 90 of 100 bytes left"),
            ("Elsewhere/x", 101, "your quota has 100 of 1000 bytes left"),
            ("Uploads/x", 5, "the server's disk cannot take its 5 bytes"),
        ] {
            let explained = explain_no_room(path, size, &quotas);
            assert!(explained.contains(what), "{explained}");
        }
    }
}
