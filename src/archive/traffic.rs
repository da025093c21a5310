//! The requests of tenants and the bytes that were sent to them, counted in memory and written to the index
//! every few seconds. A process that is killed loses what it has not written (docs/usage.md).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::archive::access::{Caller, Tenant};
use crate::archive::usage::Traffic;
use crate::archive::{Archive, Error};
use crate::clock::{MILLIS_OF_DAY, date, now_millis};

/// The traffic of this process since its start.
pub(in crate::archive) struct TrafficMeter {
    /// The name of the process in the index: each has rows of its own, which it overwrites.
    process: String,
    tenants: Mutex<HashMap<Tenant, BTreeMap<i64, MeteredDay>>>,
}

/// The traffic of a day (from 1970), and how much of it is written.
#[derive(Default)]
struct MeteredDay {
    all: Traffic,
    written: Traffic,
}

impl Default for TrafficMeter {
    fn default() -> Self {
        Self { process: Uuid::new_v4().simple().to_string(), tenants: Mutex::default() }
    }
}

impl TrafficMeter {
    fn tenants(&self) -> MutexGuard<'_, HashMap<Tenant, BTreeMap<i64, MeteredDay>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, tenant: &Tenant, day: i64, traffic: Traffic) {
        let mut tenants = self.tenants();
        match tenants.get_mut(tenant) {
            Some(days) => days.entry(day).or_default().all.add(traffic),
            None => {
                let metered = MeteredDay { all: traffic, written: Traffic::default() };
                tenants.insert(tenant.clone(), BTreeMap::from([(day, metered)]));
            }
        }
    }

    /// The totals that are not written yet.
    fn unwritten(&self) -> Vec<(Tenant, i64, Traffic)> {
        let tenants = self.tenants();
        let of_tenant = |(tenant, days): (&Tenant, &BTreeMap<i64, MeteredDay>)| {
            let unwritten = days.iter().filter(|(_, metered)| metered.all != metered.written);
            unwritten.map(|(day, metered)| (tenant.clone(), *day, metered.all)).collect::<Vec<_>>()
        };
        tenants.iter().flat_map(of_tenant).collect()
    }

    /// Marks traffic as written. Days before `today` that are written are forgotten a day later: the end of a
    /// response may still add to them, and must not begin at 0.
    fn set_written(&self, tenant: &Tenant, day: i64, written: Traffic, today: i64) {
        let mut tenants = self.tenants();
        let Some(days) = tenants.get_mut(tenant) else { return };
        days.entry(day).or_default().written = written;
        days.retain(|day, metered| *day + 1 >= today || metered.all != metered.written);
    }
}

impl Archive {
    /// Counts requests of a caller, and bytes that were sent in response.
    pub fn count_traffic(&self, caller: &Caller, traffic: Traffic) {
        self.traffic.add(&caller.tenant, now_millis().div_euclid(MILLIS_OF_DAY), traffic);
    }

    /// Writes the traffic that was counted since the last write. After an error, the next call writes what is
    /// left.
    pub async fn write_traffic(&self) -> Result<(), Error> {
        let today = now_millis().div_euclid(MILLIS_OF_DAY);
        for (tenant, day, traffic) in self.traffic.unwritten() {
            let written_on = date(day * MILLIS_OF_DAY);
            self.index.write_traffic(tenant.as_str(), &written_on, &self.traffic.process, traffic).await?;
            self.traffic.set_written(&tenant, day, traffic, today);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_total_is_written_once_and_old_days_are_forgotten() {
        let (meter, tenant) = (TrafficMeter::default(), Tenant::default_tenant());
        let traffic = |calls, sent_bytes| Traffic { calls, sent_bytes };
        meter.add(&tenant, 7, traffic(1, 0));
        meter.add(&tenant, 7, traffic(0, 100));
        meter.add(&tenant, 8, traffic(1, 5));
        let unwritten = meter.unwritten();
        assert_eq!(unwritten, [(tenant.clone(), 7, traffic(1, 100)), (tenant.clone(), 8, traffic(1, 5))]);
        meter.set_written(&tenant, 7, traffic(1, 100), 8);
        meter.add(&tenant, 7, traffic(0, 1));
        meter.add(&tenant, 8, traffic(1, 5));
        let rest = [(tenant.clone(), 7, traffic(1, 101)), (tenant.clone(), 8, traffic(2, 10))];
        assert_eq!(meter.unwritten(), rest, "totals grow");
        meter.set_written(&tenant, 7, traffic(1, 101), 9);
        meter.set_written(&tenant, 8, traffic(2, 10), 9);
        assert_eq!(meter.tenants()[&tenant].keys().collect::<Vec<_>>(), [&8]);
        assert_eq!(meter.unwritten(), []);
    }
}
