//! The devices that have sent instances to this process since its start, for the console.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::archive::Archive;
use crate::archive::access::{Caller, Tenant};
use crate::clock;

/// The most devices that are remembered of one tenant; the one that has sent nothing for the longest time is
/// forgotten.
const MAX_DEVICES: usize = 100;

/// A device of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The AE title.
    pub name: String,
    /// The time of the last instance, in milliseconds since 1970 UTC.
    pub last_received: i64,
    /// The number of instances that it has sent, duplicates included.
    pub instances: u64,
}

/// The devices of all tenants.
#[derive(Debug, Default)]
pub(in crate::archive) struct Devices(Mutex<HashMap<Tenant, Vec<Device>>>);

impl Devices {
    /// Records that a device has sent an instance which is stored.
    pub(in crate::archive) fn record(&self, caller: &Caller, now: i64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let devices = all.entry(caller.tenant.clone()).or_default();
        if let Some(device) = devices.iter_mut().find(|device| *device.name == *caller.subject) {
            device.last_received = now;
            device.instances += 1;
            return;
        }
        if devices.len() == MAX_DEVICES
            && let Some(oldest) = (0..devices.len()).min_by_key(|at| devices[*at].last_received)
        {
            devices.swap_remove(oldest);
        }
        devices.push(Device { name: caller.subject.to_string(), last_received: now, instances: 1 });
    }

    /// The devices of a tenant, the last to send first.
    fn of(&self, tenant: &Tenant) -> Vec<Device> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut devices = all.get(tenant).cloned().unwrap_or_default();
        devices.sort_by_key(|device| std::cmp::Reverse(device.last_received));
        devices
    }
}

impl Archive {
    /// Records that a device, whose AE title is the caller's name, has sent an instance which is stored.
    pub fn note_device(&self, caller: &Caller) {
        self.devices.record(caller, clock::now_millis());
    }

    /// The devices that have sent instances of the caller's tenant since the start, the last to send first.
    pub fn devices(&self, caller: &Caller) -> Vec<Device> {
        self.devices.of(&caller.tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_remembered_by_tenant_and_the_oldest_is_forgotten() {
        let devices = Devices::default();
        let caller = |tenant: &str, name: &str| Caller {
            subject: name.into(),
            ..Caller::server(tenant.parse().unwrap())
        };
        for now in 1..=150 {
            devices.record(&caller("a", &format!("D-{now}")), now);
        }
        devices.record(&caller("a", "D-60"), 151);
        devices.record(&caller("b", "D-60"), 1);
        let of_a = devices.of(&caller("a", "").tenant);
        assert_eq!(of_a.len(), MAX_DEVICES);
        assert_eq!(of_a[0], Device { name: "D-60".into(), last_received: 151, instances: 2 });
        assert!(of_a.iter().all(|device| device.last_received > 50));
        assert_eq!(devices.of(&caller("b", "").tenant).len(), 1);
        assert!(devices.of(&caller("c", "").tenant).is_empty());
    }
}
