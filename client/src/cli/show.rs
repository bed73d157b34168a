//! Volumes and sessions as JSON for people and scripts. Secrets are left out here, and only here. (P) Called by format, status, config.

use holdfast_proto::date::civil;
use holdfast_proto::pb;
use serde_json::{Value, json};

/// A volume's settings. Of the credentials only the names are shown.
pub fn settings(settings: &pb::VolumeSettings) -> Value {
    let storage = settings.storage.clone().unwrap_or_default();
    json!({
        "name": settings.name,
        "id": settings.id,
        "uuid": hex(&settings.uuid),
        "storage": {
            "kind": storage.kind,
            "url": storage.url,
            "options": storage.options,
            "credentials": storage.secrets.keys().collect::<Vec<_>>(),
        },
        "block_size": settings.block_size,
        "capacity_bytes": settings.capacity_bytes,
        "inodes_max": settings.inodes_max,
        "trash_days": settings.trash_days,
        "created": settings.created.as_ref().map(time),
    })
}

/// A volume's settings, usage and sessions.
pub fn status(status: &pb::VolumeStatusReply) -> Value {
    let mut value = settings(&status.settings.clone().unwrap_or_default());
    value["used_bytes"] = status.used_bytes.into();
    value["used_inodes"] = status.used_inodes.into();
    value["orphans"] = status.orphans.into();
    value["deleted_slices"] = status.deleted_slices.into();
    value["sessions"] = status.sessions.iter().map(session).collect();
    value
}

fn session(session: &pb::SessionInfo) -> Value {
    json!({
        "session": session.session,
        "host": session.host,
        "mountpoint": session.mountpoint,
        "pid": session.pid,
        "version": session.version,
        "opened": session.opened.as_ref().map(time),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 3339, UTC, whole seconds.
pub fn time(time: &pb::TimeSpec) -> String {
    let (day, second) = (time.sec.div_euclid(86_400), time.sec.rem_euclid(86_400));
    let (year, month, day) = civil(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_shown_by_name_only() {
        let secrets = [("secret_access_key".to_owned(), "hunter2".to_owned())].into();
        let storage = Some(pb::Storage { kind: "s3".into(), url: "s3://b".into(), secrets, ..Default::default() });
        let volume = pb::VolumeSettings { name: "v".into(), storage, ..Default::default() };
        let status = status(&pb::VolumeStatusReply { settings: Some(volume.clone()), ..Default::default() });
        for text in [settings(&volume).to_string(), status.to_string()] {
            assert!(text.contains("secret_access_key") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn times_are_shown_as_rfc_3339() {
        let shown = |sec| time(&pb::TimeSpec { sec, nsec: 5 });
        assert_eq!(shown(0), "1970-01-01T00:00:00Z");
        assert_eq!(shown(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(shown(1_763_683_199), "2025-11-20T23:59:59Z");
        assert_eq!(shown(1_709_251_200), "2024-03-01T00:00:00Z");
        assert_eq!(shown(-1), "1969-12-31T23:59:59Z");
        assert_eq!(shown(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
