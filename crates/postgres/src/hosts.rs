//! Several hosts, of which one may be used: each by itself, and all tried at once.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// A configuration for each host. One whose hosts, addresses and ports do not fit together stays whole: it is refused when it is used.
pub(crate) fn each(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let fits = |given: usize| given == 0 || given == count;
    if count < 2 || !fits(hosts.len()) || !fits(addresses.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return vec![config.clone()];
    }
    let one = |place: usize| {
        let mut one = without_hosts(config);
        match hosts.get(place) {
            Some(Host::Tcp(name)) => {
                one.host(name);
            }
            #[cfg(unix)]
            Some(Host::Unix(directory)) => {
                one.host_path(directory);
            }
            None => {}
        }
        if let Some(address) = addresses.get(place) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(place).or_else(|| ports.first()) {
            one.port(*port);
        }
        one
    };
    (0..count).map(one).collect()
}

/// All that does not say where the server is.
fn without_hosts(config: &Config) -> Config {
    let mut same = Config::new();
    same.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .load_balance_hosts(config.get_load_balance_hosts())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    if let Some(user) = config.get_user() {
        same.user(user);
    }
    if let Some(password) = config.get_password() {
        same.password(password);
    }
    if let Some(database) = config.get_dbname() {
        same.dbname(database);
    }
    if let Some(options) = config.get_options() {
        same.options(options);
    }
    if let Some(name) = config.get_application_name() {
        same.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        same.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        same.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        same.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        same.keepalives_retries(retries);
    }
    same
}

/// What succeeds first, of several that are tried at once; the others are given up. If none does, the errors of all.
pub(crate) async fn first<T, E>(
    trying: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<T, Vec<E>> {
    let mut trying: FuturesUnordered<_> = trying.collect();
    let mut errors = Vec::new();
    while let Some(tried) = trying.next().await {
        match tried {
            Ok(done) => return Ok(done),
            Err(error) => errors.push(error),
        }
    }
    Err(errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::pin::Pin;

    fn split(url: &str) -> Vec<Config> {
        each(&url.parse().unwrap())
    }

    #[test]
    fn each_host_stands_alone_with_all_that_is_said_of_the_connection() {
        let same = "user:p%40ss@{}/kite?connect_timeout=7&application_name=x&keepalives_idle=3&keepalives_interval=2\
                    &keepalives_retries=4&tcp_user_timeout=9&target_session_attrs=read-write&sslmode=disable\
                    &sslnegotiation=direct&channel_binding=require&load_balance_hosts=random&keepalives=0\
                    &options=-c%20geqo%3Doff";
        let at = |hosts: &str| format!("postgres://{}", same.replace("{}", hosts));
        for (hosts, alone) in [
            ("one", vec!["one"]),
            ("one:1,two:2", vec!["one:1", "two:2"]),
            ("one,two:2,[::1]:3", vec!["one", "two:2", "[::1]:3"]),
            ("one:1,%2Ftmp:2", vec!["one:1", "%2Ftmp:2"]),
        ] {
            let alone: Vec<Config> = alone.iter().map(|host| at(host).parse().unwrap()).collect();
            assert_eq!(split(&at(hosts)), alone, "{hosts}");
        }
    }

    #[test]
    fn a_port_that_is_given_once_is_that_of_all_hosts_and_addresses_go_with_their_hosts() {
        for (all, alone) in [
            ("host=one,two port=7", vec!["host=one port=7", "host=two port=7"]),
            ("host=one,two", vec!["host=one", "host=two"]),
            ("host=one,/tmp port=7,8", vec!["host=one port=7", "host=/tmp port=8"]),
            (
                "host=one,two hostaddr=192.0.2.1,192.0.2.2 port=7",
                vec!["host=one hostaddr=192.0.2.1 port=7", "host=two hostaddr=192.0.2.2 port=7"],
            ),
            ("hostaddr=192.0.2.1,192.0.2.2", vec!["hostaddr=192.0.2.1", "hostaddr=192.0.2.2"]),
        ] {
            let alone: Vec<Config> = alone.iter().map(|one| one.parse().unwrap()).collect();
            assert_eq!(split(all), alone, "{all}");
        }
    }

    #[test]
    fn what_does_not_fit_together_stays_whole() {
        for whole in
            ["host=one,two port=1,2,3", "host=one,two hostaddr=192.0.2.1", "host=one port=1,2", "user=x"]
        {
            assert_eq!(split(whole), [whole.parse().unwrap()], "{whole}");
        }
    }

    type Trying = Pin<Box<dyn Future<Output = Result<u8, u8>>>>;

    #[tokio::test]
    async fn the_first_that_succeeds_waits_for_none_and_without_one_all_errors_are_known() {
        let trying: [Trying; 3] = [Box::pin(pending()), Box::pin(ready(Err(1))), Box::pin(ready(Ok(2)))];
        assert_eq!(first(trying.into_iter()).await, Ok(2));
        let late = async {
            tokio::task::yield_now().await;
            Err(1)
        };
        let trying: [Trying; 2] = [Box::pin(late), Box::pin(ready(Err(2)))];
        assert_eq!(first(trying.into_iter()).await, Err(vec![2, 1]));
    }
}
