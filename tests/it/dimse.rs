//! The DIMSE protocol layer over real sockets, with a peer that breaks the protocol.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::scope::Scope;
use cuspid::config::DimseSettings;
use cuspid::dimse::Listeners;
use cuspid::dimse::callers::Callers;
use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationAC, AssociationRJResult, AssociationRQ,
    PDataValue, PDataValueType, Pdu, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason, RequestorRoles, UserVariableItem, read_pdu, write_pdu,
};
use futures_util::TryStreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::harness::{CT, EXPLICIT, defaults};

/// Study Root Query/Retrieve Information Model - FIND, - GET and - MOVE.
const FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";
const GET: &str = "1.2.840.10008.5.1.4.1.2.2.3";
const MOVE: &str = "1.2.840.10008.5.1.4.1.2.2.2";
/// Storage Commitment Push Model, and its well-known instance.
const COMMITMENT: &str = "1.2.840.10008.1.20.1";
const COMMITMENT_INSTANCE: &str = "1.2.840.10008.1.20.1.1";
const VERIFICATION: &str = "1.2.840.10008.1.1";
const STUDY: &str = "1.2.3.1";
const SERIES: &str = "1.2.3.1.1";

/// A DIMSE listener without HTTP.
struct Server {
    address: SocketAddr,
    archive: Arc<Archive>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    _engine: Engine,
}

async fn start(change: impl FnOnce(&mut DimseSettings)) -> Server {
    let mut config = defaults();
    change(&mut config.dimse);
    let engine = Engine::open(&config).await;
    let archive = engine.archive.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(cuspid::dimse::run(
        Listeners { plain: Some(listener), tls: None },
        archive.clone(),
        config.dimse.clone(),
        Callers::of(&config),
        cuspid::dimse::outgoing_places(&config.dimse),
        stop.clone(),
    ));
    Server { address, archive, stop, running, _engine: engine }
}

impl Server {
    /// The stored bytes of an instance; `None` if it is not stored.
    async fn stored(&self, instance: &str) -> Option<Vec<u8>> {
        let caller = Caller::anonymous();
        let (study, series) = (STUDY.parse().unwrap(), SERIES.parse().unwrap());
        let instance = instance.parse().unwrap();
        let record = self.archive.instance(&caller, &study, &series, &instance).await.ok()?;
        let bytes = self.archive.read(&caller, &record, 0..record.size_bytes).await.unwrap();
        let bytes: Vec<_> = bytes.try_collect().await.unwrap();
        Some(bytes.concat())
    }

    async fn is_empty(&self) -> bool {
        let scope = Scope { study: STUDY.parse().unwrap(), series: None, instance: None };
        self.archive.instances(&Caller::anonymous(), &scope).await.is_err()
    }
}

/// A peer that can send any bytes.
pub(crate) struct Peer {
    stream: TcpStream,
    received: BytesMut,
}

impl Peer {
    async fn ask(server: &Server) -> (Self, Pdu) {
        Self::ask_as("PEER", server.address).await
    }

    /// Requests contexts 1 (CT, in both roles), 3 (Verification), 5 (FIND), 7 (GET), 9 (MOVE) and 11
    /// (storage commitment) under an AE title, and returns the answer.
    pub(crate) async fn ask_as(calling: &str, address: SocketAddr) -> (Self, Pdu) {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut peer = Self { stream, received: BytesMut::new() };
        let context = |id, class: &str| PresentationContextProposed {
            id,
            abstract_syntax: class.into(),
            transfer_syntaxes: vec![EXPLICIT.into()],
        };
        peer.send(&Pdu::AssociationRQ(AssociationRQ {
            protocol_version: 1,
            calling_ae_title: calling.into(),
            called_ae_title: "CUSPID".into(),
            application_context_name: "1.2.840.10008.3.1.1.1".into(),
            presentation_contexts: vec![
                context(1, CT),
                context(3, VERIFICATION),
                context(5, FIND),
                context(7, GET),
                context(9, MOVE),
                context(11, COMMITMENT),
            ],
            user_variables: vec![
                UserVariableItem::MaxLength(16384),
                UserVariableItem::Unknown(0x53, vec![0, 0, 0, 1]),
                UserVariableItem::ScuScpRoleSelectionSubItem(
                    CT.into(),
                    RequestorRoles { scu: true, scp: true },
                ),
            ],
        }))
        .await;
        let answer = peer.receive().await.expect("an answer");
        (peer, answer)
    }

    async fn associate(server: &Server) -> Self {
        let (peer, answer) = Self::ask(server).await;
        assert!(matches!(answer, Pdu::AssociationAC(_)), "{answer:?}");
        peer
    }

    async fn send(&mut self, pdu: &Pdu) {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next PDU; `None` at the end of the connection.
    async fn receive(&mut self) -> Option<Pdu> {
        loop {
            if let Some(pdu) = read_pdu(&self.received[..], 1 << 20, true).unwrap() {
                let length = u32::from_be_bytes(self.received[2..6].try_into().unwrap());
                self.received.advance(6 + length as usize);
                return Some(pdu);
            }
            if self.stream.read_buf(&mut self.received).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn value(&mut self, context: u8, value_type: PDataValueType, is_last: bool, data: &[u8]) {
        let value = PDataValue { presentation_context_id: context, value_type, is_last, data: data.to_vec() };
        self.send(&Pdu::PData { data: vec![value] }).await;
    }

    async fn command(&mut self, context: u8, elements: &[(u16, Vec<u8>)]) {
        self.value(context, PDataValueType::Command, true, &implicit(elements)).await;
    }

    pub(crate) async fn store(&mut self, message: u16, instance: &str, data_set: &[u8]) {
        self.command(1, &store_request(message, instance)).await;
        self.value(1, PDataValueType::Data, true, data_set).await;
    }

    /// The next response: the message that it answers, its Command Field and its status.
    pub(crate) async fn response(&mut self) -> (u16, u16, u16) {
        let Some(Pdu::PData { data }) = self.receive().await else { panic!("no response") };
        let number = |wanted: u16| {
            let mut rest = &data[0].data[..];
            loop {
                let element = u16::from_le_bytes([rest[2], rest[3]]);
                let length = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
                if element == wanted {
                    return u16::from_le_bytes([rest[8], rest[9]]);
                }
                rest = &rest[8 + length..];
            }
        };
        (number(0x0120), number(0x0100), number(0x0900))
    }

    async fn is_aborted_because(&mut self, reason: AbortRQServiceProviderReason) {
        let expected = Pdu::AbortRQ { source: AbortRQSource::ServiceProvider(reason) };
        assert_eq!(self.receive().await, Some(expected));
        assert_eq!(self.receive().await, None);
    }

    async fn release(mut self) {
        self.send(&Pdu::ReleaseRQ).await;
        assert_eq!(self.receive().await, Some(Pdu::ReleaseRP));
    }
}

fn implicit(elements: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (element, value) in elements {
        bytes.extend([0, 0]);
        bytes.extend(element.to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

fn even(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(text.len().next_multiple_of(2), 0);
    bytes
}

fn request(field: u16, message: u16, class: &str, data_set_type: u16) -> Vec<(u16, Vec<u8>)> {
    vec![
        (0x0002, even(class)),
        (0x0100, field.to_le_bytes().into()),
        (0x0110, message.to_le_bytes().into()),
        (0x0800, data_set_type.to_le_bytes().into()),
    ]
}

fn store_request(message: u16, instance: &str) -> Vec<(u16, Vec<u8>)> {
    let mut elements = request(1, message, CT, 1);
    elements.push((0x1000, even(instance)));
    elements
}

/// A CT instance in explicit VR little endian, with `comment` as its Image Comments.
fn data_set(instance: &str, comment: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (group, element, vr, text) in [
        (0x0008_u16, 0x0016_u16, b"UI", CT),
        (0x0008, 0x0018, b"UI", instance),
        (0x0020, 0x000D, b"UI", STUDY),
        (0x0020, 0x000E, b"UI", SERIES),
        (0x0020, 0x4000, b"LT", comment),
    ] {
        bytes.extend(group.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        bytes.extend(vr);
        let value = even(text);
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

#[tokio::test]
async fn an_echo_is_answered() {
    let server = start(|_| ()).await;
    let mut peer = Peer::associate(&server).await;
    peer.command(3, &request(0x30, 9, VERIFICATION, 0x0101)).await;
    assert_eq!(peer.response().await, (9, 0x8030, 0));
    peer.release().await;
}

#[tokio::test]
async fn a_stored_instance_is_the_data_set_behind_a_file_head() {
    let server = start(|_| ()).await;
    let mut peer = Peer::associate(&server).await;
    let sent = data_set("1.2.3.5", "x");
    peer.command(1, &store_request(1, "1.2.3.5")).await;
    for byte in sent.chunks(1) {
        peer.value(1, PDataValueType::Data, false, byte).await;
    }
    peer.value(1, PDataValueType::Data, true, b"").await;
    assert_eq!(peer.response().await, (1, 0x8001, 0));
    let stored = server.stored("1.2.3.5").await.unwrap();
    assert_eq!(&stored[128..132], b"DICM");
    assert!(stored.ends_with(&sent));
    let devices = server.archive.devices(&Caller::anonymous());
    assert_eq!(
        devices.iter().map(|device| (&*device.name, device.instances)).collect::<Vec<_>>(),
        [("PEER", 1)]
    );
    peer.release().await;
}

#[tokio::test]
async fn a_resend_succeeds_and_other_bytes_do_not() {
    let server = start(|_| ()).await;
    let mut peer = Peer::associate(&server).await;
    for (message, comment, status) in [(1, "first", 0), (2, "first", 0), (3, "other", 0xA900)] {
        peer.store(message, "1.2.3.5", &data_set("1.2.3.5", comment)).await;
        assert_eq!(peer.response().await, (message, 0x8001, status), "{comment}");
    }
    assert!(server.stored("1.2.3.5").await.unwrap().ends_with(b"first\0"));
}

#[tokio::test]
async fn the_same_data_set_as_a_file_is_the_same_instance() {
    let server = start(|_| ()).await;
    let mut peer = Peer::associate(&server).await;
    let data_set = data_set("1.2.3.5", "first");
    peer.store(1, "1.2.3.5", &data_set).await;
    assert_eq!(peer.response().await, (1, 0x8001, 0));
    let stored = server.stored("1.2.3.5").await.unwrap();
    let mut other = data_set.clone();
    other[1 << 4] ^= 1;
    let mut preamble = stored.clone();
    preamble[0] = b'I';
    let mut longer_head = stored.clone();
    longer_head.splice(132..132, b"\x02\0\0\0UL\x04\0\0\0\0\0".iter().copied());
    for (name, file, is_known) in [
        ("without file header", data_set.clone(), true),
        ("another preamble", preamble, true),
        ("another group 2", longer_head, true),
        ("another data set", [&stored[..stored.len() - data_set.len()], &other].concat(), false),
        ("more before it", [data_set[..26].to_vec(), data_set.clone()].concat(), false),
    ] {
        let mut upload = server.archive.receive(&Caller::anonymous(), None).await;
        upload.write(file.into()).await;
        let known = upload.finish().await.await.result.is_ok_and(|stored| stored.is_duplicate);
        assert_eq!(known, is_known, "{name}");
    }
    assert_eq!(server.stored("1.2.3.5").await.unwrap(), stored);
}

#[tokio::test]
async fn a_data_set_of_another_sop_class_is_stored_with_a_warning() {
    let server = start(|_| ()).await;
    let mut peer = Peer::associate(&server).await;
    let mut mr = data_set("1.2.3.5", "x");
    let digit = mr.windows(CT.len()).position(|window| window == CT.as_bytes()).unwrap() + CT.len() - 1;
    mr[digit] = b'4';
    peer.store(1, "1.2.3.5", &mr).await;
    assert_eq!(peer.response().await, (1, 0x8001, 0xB007));
    assert!(server.stored("1.2.3.5").await.unwrap().ends_with(&mr));
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_and_the_association_goes_on() {
    let server = start(|_| ()).await;
    let mut peer = Peer::associate(&server).await;
    let good = data_set("1.2.3.5", "x");
    let mut of_other_class = store_request(4, "1.2.3.5");
    of_other_class[0].1 = even("1.2.840.10008.5.1.4.1.1.4");
    for (message, command, bytes, status) in [
        (1, store_request(1, "1.2.3.6"), &good[..], 0xA900),
        (2, store_request(2, "1.2.3.5"), &good[..good.len() - 1], 0xC000),
        (3, store_request(3, "../../x"), &good, 0x0117),
        (4, of_other_class, &good, 0x0122),
        (5, request(0x20, 5, CT, 1), &good, 0x0211),
    ] {
        peer.command(1, &command).await;
        peer.value(1, PDataValueType::Data, true, bytes).await;
        let (answered, _, found) = peer.response().await;
        assert_eq!((answered, found), (message, status), "message {message}");
    }
    assert!(server.is_empty().await);
    peer.store(6, "1.2.3.5", &good).await;
    assert_eq!(peer.response().await, (6, 0x8001, 0));
    peer.release().await;
}

#[tokio::test]
async fn operations_sent_without_waiting_are_answered_in_order() {
    let server = start(|settings| settings.max_operations = 4).await;
    let mut peer = Peer::associate(&server).await;
    for message in 1..=20 {
        let instance = format!("1.2.3.5.{message}");
        peer.store(message, &instance, &data_set(&instance, "x")).await;
    }
    peer.send(&Pdu::ReleaseRQ).await;
    for message in 1..=20 {
        assert_eq!(peer.response().await, (message, 0x8001, 0));
    }
    assert_eq!(peer.receive().await, Some(Pdu::ReleaseRP));
}

#[tokio::test]
async fn a_transfer_cut_short_leaves_nothing() {
    let server = start(|settings| settings.max_associations = 1).await;
    let half = &data_set("1.2.3.5", "x")[..60];
    for end in ["abort", "release", "close"] {
        let mut peer = Peer::associate(&server).await;
        peer.command(1, &store_request(1, "1.2.3.5")).await;
        peer.value(1, PDataValueType::Data, false, half).await;
        match end {
            "abort" => peer.send(&Pdu::AbortRQ { source: AbortRQSource::ServiceUser }).await,
            "release" => peer.send(&Pdu::ReleaseRQ).await,
            _ => peer.stream.shutdown().await.unwrap(),
        }
        let last = peer.receive().await;
        assert_eq!(last, (end == "release").then_some(Pdu::ReleaseRP), "{end}");
        drop(peer);
        assert!(server.is_empty().await, "{end}");
        // The permit of the association is returned when its task has ended, shortly after the socket closed.
        while !matches!(Peer::ask(&server).await.1, Pdu::AssociationAC(_)) {}
    }
}

#[tokio::test]
async fn what_is_against_the_protocol_is_aborted_with_its_reason() {
    use AbortRQServiceProviderReason::*;
    let server = start(|_| ()).await;
    let too_long = [&[4, 0][..], &262_145_u32.to_be_bytes()].concat();
    let on_unknown_context = [4, 0, 0, 0, 0, 6, 0, 0, 0, 2, 99, 3];
    let without_command = [4, 0, 0, 0, 0, 6, 0, 0, 0, 2, 1, 2];
    let unknown_pdu = [9, 0, 0, 0, 0, 0];
    let released_before = [6, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    let too_short = [4, 0, 0, 0, 0, 6, 0, 0, 0, 1, 1, 2];
    for (bytes, reason) in [
        (&too_long[..], InvalidPduParameter),
        (&on_unknown_context, InvalidPduParameter),
        (&without_command, UnexpectedPduParameter),
        (&unknown_pdu, UnrecognizedPdu),
        (&released_before, UnexpectedPdu),
        (&too_short, InvalidPduParameter),
    ] {
        let mut peer = Peer::associate(&server).await;
        peer.stream.write_all(bytes).await.unwrap();
        peer.is_aborted_because(reason).await;
    }
    Peer::associate(&server).await.release().await;
}

#[tokio::test]
async fn one_association_too_many_is_rejected_for_the_time_being() {
    let server = start(|settings| settings.max_associations = 1).await;
    let first = Peer::associate(&server).await;
    let (_, answer) = Peer::ask(&server).await;
    let Pdu::AssociationRJ(rejection) = answer else { panic!("{answer:?}") };
    assert_eq!(rejection.result, AssociationRJResult::Transient);
    assert_eq!(rejection.source.to_string(), "temporary congestion");
    first.release().await;
}

#[tokio::test]
async fn an_address_takes_no_more_than_its_share_of_the_associations() {
    let server = start(|settings| settings.max_associations = 4).await;
    // Connections without a request take no place.
    let _silent = [TcpStream::connect(server.address).await.unwrap()];
    let held = [Peer::associate(&server).await, Peer::associate(&server).await];
    let (_, answer) = Peer::ask(&server).await;
    let Pdu::AssociationRJ(rejection) = answer else { panic!("{answer:?}") };
    assert_eq!(rejection.source.to_string(), "temporary congestion");
    for peer in held {
        peer.release().await;
    }
    while !matches!(Peer::ask(&server).await.1, Pdu::AssociationAC(_)) {}
}

#[tokio::test]
async fn peers_that_send_half_a_request_make_room_the_oldest_first() {
    let server = start(|settings| settings.max_associations = 2).await;
    // All connections that one address may have.
    let mut half = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&[1, 0, 0, 0, 1, 0]).await.unwrap();
        half.push(stream);
    }
    Peer::associate(&server).await.release().await;
    // An A-ABORT, and the end of the connection.
    let mut bytes = Vec::new();
    half[0].read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.first(), Some(&7), "{bytes:?}");
    let other = tokio::time::timeout(Duration::from_millis(100), half[1].read_u8()).await;
    assert!(other.is_err(), "the other connection stays: {other:?}");
}

#[tokio::test]
async fn a_peer_that_trickles_is_aborted() {
    let server = start(|settings| settings.idle_timeout_seconds = 1).await;
    let mut peer = Peer::associate(&server).await;
    peer.command(1, &store_request(1, "1.2.3.5")).await;
    for _ in 0..14 {
        // Ten times in the idle timeout, but a hundredth of the minimum rate.
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.value(1, PDataValueType::Data, false, &[0]).await;
    }
    assert!(server.is_empty().await);
    peer.is_aborted_because(AbortRQServiceProviderReason::ReasonNotSpecified).await;
}

#[tokio::test]
async fn eight_associations_store_at_once_though_one_hangs() {
    let server = start(|_| ()).await;
    let mut hanging = Peer::associate(&server).await;
    hanging.command(1, &store_request(1, "1.2.3.9")).await;
    let store = async |association: u16| {
        let mut peer = Peer::associate(&server).await;
        for message in 1..=10 {
            let instance = format!("1.2.3.5.{association}.{message}");
            peer.store(message, &instance, &data_set(&instance, "x")).await;
            assert_eq!(peer.response().await, (message, 0x8001, 0));
        }
        peer.release().await;
    };
    futures_util::future::join_all((1..=8).map(store)).await;
    for association in 1..=8 {
        assert!(server.stored(&format!("1.2.3.5.{association}.10")).await.is_some());
    }
}

#[tokio::test]
async fn a_silent_peer_is_aborted() {
    use AbortRQServiceProviderReason::ReasonNotSpecified;
    let server = start(|settings| settings.idle_timeout_seconds = 1).await;
    let mut idle = Peer::associate(&server).await;
    let mut within_a_data_set = Peer::associate(&server).await;
    within_a_data_set.command(1, &store_request(1, "1.2.3.9")).await;
    idle.is_aborted_because(ReasonNotSpecified).await;
    within_a_data_set.is_aborted_because(ReasonNotSpecified).await;

    let server = start(|settings| settings.request_timeout_seconds = 1).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    Peer { stream, received: BytesMut::new() }.is_aborted_because(ReasonNotSpecified).await;
}

#[tokio::test]
async fn a_stop_waits_for_what_is_half_sent() {
    let server = start(|_| ()).await;
    let mut idle = Peer::associate(&server).await;
    let mut busy = Peer::associate(&server).await;
    let head = data_set("1.2.3.5", "x");
    busy.command(1, &store_request(1, "1.2.3.5")).await;
    busy.value(1, PDataValueType::Data, false, &head).await;
    busy.value(1, PDataValueType::Data, false, b"\x42\0\x11\0OB\0\0\0\0\0\x01").await;
    // No socket's buffers hold so much: once all is sent, the server has begun to read.
    for _ in 1..256 {
        busy.value(1, PDataValueType::Data, false, &[0; 65536]).await;
    }
    server.stop.cancel();
    let aborted = Some(Pdu::AbortRQ { source: AbortRQSource::ServiceUser });
    assert_eq!(idle.receive().await, aborted);
    drop(idle);
    busy.value(1, PDataValueType::Data, true, &[0; 65536]).await;
    assert_eq!(busy.response().await, (1, 0x8001, 0));
    assert_eq!(busy.receive().await, aborted);
    drop(busy);
    assert!(server.stored("1.2.3.5").await.is_some());
    server.running.await.unwrap();
}

/// An identifier that selects the study in which [`data_set`] is, in explicit VR little endian.
fn study_identifier() -> Vec<u8> {
    let mut bytes = b"\x08\0\x52\0CS\x06\0STUDY \x20\0\x0D\0UI".to_vec();
    let study = even(STUDY);
    bytes.extend((study.len() as u16).to_le_bytes());
    bytes.extend(study);
    bytes
}

fn cancel_request(message: u16) -> Vec<(u16, Vec<u8>)> {
    vec![
        (0x0100, 0x0FFF_u16.to_le_bytes().into()),
        (0x0120, message.to_le_bytes().into()),
        (0x0800, 0x0101_u16.to_le_bytes().into()),
    ]
}

/// A server with as many instances in its study.
async fn start_with(instances: usize) -> Server {
    start_changed(instances, |settings| settings.idle_timeout_seconds = 2).await
}

/// The same with other settings.
async fn start_changed(instances: usize, change: impl FnOnce(&mut DimseSettings)) -> Server {
    let server = start(change).await;
    let mut peer = Peer::associate(&server).await;
    for number in 1..=instances {
        let instance = format!("1.2.3.5.{number}");
        peer.store(1, &instance, &data_set(&instance, "x")).await;
        assert_eq!(peer.response().await, (1, 0x8001, 0));
    }
    peer.release().await;
    server
}

#[tokio::test]
async fn a_find_is_answered_while_others_wait_and_a_cancellation_ends_it() {
    let server = start_with(1).await;
    let mut peer = Peer::associate(&server).await;
    peer.command(5, &request(0x20, 1, FIND, 1)).await;
    peer.value(5, PDataValueType::Data, true, &study_identifier()).await;
    assert_eq!(peer.response().await, (1, 0x8020, 0xFF00));
    assert!(matches!(peer.receive().await, Some(Pdu::PData { .. })), "the match");
    assert_eq!(peer.response().await, (1, 0x8020, 0));
    // In one segment, so that the cancellation is read before the search has begun.
    let mut bytes = Vec::new();
    for (value_type, data) in [
        (PDataValueType::Command, implicit(&request(0x20, 2, FIND, 1))),
        (PDataValueType::Data, study_identifier()),
        (PDataValueType::Command, implicit(&cancel_request(2))),
    ] {
        let value = PDataValue { presentation_context_id: 5, value_type, is_last: true, data };
        write_pdu(&mut bytes, &Pdu::PData { data: vec![value] }).unwrap();
    }
    peer.stream.write_all(&bytes).await.unwrap();
    assert_eq!(peer.response().await, (2, 0x8020, 0xFE00));
    // A cancellation of what has ended says nothing.
    peer.command(5, &cancel_request(2)).await;
    peer.command(3, &request(0x30, 3, VERIFICATION, 0x0101)).await;
    assert_eq!(peer.response().await, (3, 0x8030, 0));
    peer.release().await;
}

#[tokio::test]
async fn a_query_without_an_identifier_or_in_another_context_is_refused() {
    let server = start(|_| ()).await;
    let mut peer = Peer::associate(&server).await;
    for (message, context, field, has_data_set, status) in
        [(1, 5, 0x20, 0x0101, 0xC000), (2, 5, 0x21, 1, 0x0211), (3, 1, 0x20, 1, 0x0211), (4, 5, 1, 1, 0x0211)]
    {
        peer.command(context, &request(field, message, FIND, has_data_set)).await;
        if has_data_set == 1 {
            peer.value(context, PDataValueType::Data, true, &study_identifier()).await;
        }
        assert_eq!(peer.response().await, (message, 0x8000 | field, status), "message {message}");
    }
    // More than 1 MiB.
    peer.command(5, &request(0x20, 5, FIND, 1)).await;
    for _ in 0..9 {
        peer.value(5, PDataValueType::Data, false, &[0; 128 * 1024]).await;
    }
    peer.value(5, PDataValueType::Data, true, &[]).await;
    assert_eq!(peer.response().await, (5, 0x8020, 0xC000));
    peer.release().await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_what_it_gets_is_aborted() {
    let server = start_with(2).await;
    let mut peer = Peer::associate(&server).await;
    peer.command(7, &request(0x10, 1, GET, 1)).await;
    peer.value(7, PDataValueType::Data, true, &study_identifier()).await;
    assert!(matches!(peer.receive().await, Some(Pdu::PData { .. })), "the C-STORE-RQ");
    while let Some(Pdu::PData { data }) = peer.receive().await {
        if data[0].is_last {
            break;
        }
    }
    peer.is_aborted_because(AbortRQServiceProviderReason::ReasonNotSpecified).await;
}

#[tokio::test]
async fn a_response_that_no_one_waits_for_is_a_violation() {
    let server = start(|_| ()).await;
    let mut peer = Peer::associate(&server).await;
    let mut response = request(0x8001, 0, CT, 0x0101);
    response[2].0 = 0x0120;
    response.push((0x0900, vec![0, 0]));
    peer.command(1, &response).await;
    assert_eq!(peer.receive().await, Some(Pdu::AbortRQ { source: AbortRQSource::ServiceUser }));
}

#[tokio::test]
async fn a_release_ends_a_get() {
    let server = start_with(3).await;
    let mut peer = Peer::associate(&server).await;
    peer.command(7, &request(0x10, 1, GET, 1)).await;
    peer.value(7, PDataValueType::Data, true, &study_identifier()).await;
    assert!(matches!(peer.receive().await, Some(Pdu::PData { .. })), "the C-STORE-RQ");
    peer.send(&Pdu::ReleaseRQ).await;
    let mut last = peer.receive().await;
    while let Some(Pdu::PData { .. }) = last {
        last = peer.receive().await;
    }
    assert_eq!(last, Some(Pdu::ReleaseRP));
}

#[tokio::test]
async fn the_operations_of_a_peer_are_in_the_audit_log() {
    let server = start_with(3).await;
    let mut peer = Peer::associate(&server).await;
    peer.command(5, &request(0x20, 1, FIND, 1)).await;
    peer.value(5, PDataValueType::Data, true, &study_identifier()).await;
    while peer.response().await.2 != 0 {
        peer.receive().await;
    }
    peer.command(7, &request(0x10, 2, GET, 1)).await;
    peer.value(7, PDataValueType::Data, true, &study_identifier()).await;
    // The peer goes, so that nothing is sent whole.
    assert!(matches!(peer.receive().await, Some(Pdu::PData { .. })), "the C-STORE-RQ");
    peer.send(&Pdu::ReleaseRQ).await;
    while peer.receive().await.is_some() {}
    let outlines = async || {
        let page = server.archive.audit().list("default", &Default::default(), None, 100).await.unwrap();
        let outline = |record: &cuspid::audit::record::AuditRecord| {
            let entry = &record.entry;
            assert_eq!(entry.user.address, "127.0.0.1");
            assert_eq!(entry.study.as_deref(), Some(STUDY));
            let query = entry.query.as_deref().unwrap_or("-");
            format!("{} {} {} {query}", entry.event.name(), entry.action.letter(), entry.user.user)
        };
        page.records.iter().rev().map(outline).collect::<Vec<_>>()
    };
    let calling = server.archive.audit().list("default", &Default::default(), None, 1).await.unwrap();
    let calling = calling.records[0].entry.user.user.clone();
    assert!(!calling.is_empty());
    let expected = [
        format!("instances-transferred C {calling} -"),
        format!("query E {calling} C-FIND STUDY 0020000D={STUDY}"),
        format!("begin-transferring E {calling} -"),
        format!("instances-transferred R {calling} -"),
    ];
    let found = outlines().await;
    assert!(found == expected || found == expected[..3], "{found:?}");
}

#[tokio::test]
async fn identifiers_with_too_many_keys_are_refused_one_after_the_other_at_each_level() {
    let server = start(|settings| settings.max_operations = 4).await;
    let mut peer = Peer::associate(&server).await;
    // Keys that are not of the level, as long as an identifier may be.
    let mut keys = Vec::new();
    for number in 0..100_000_u32 {
        keys.extend((0x4002 + 2 * (number >> 16) as u16).to_le_bytes());
        keys.extend((number as u16).to_le_bytes());
        keys.extend(b"LO\x02\0* ");
    }
    for message in 1..=12 {
        peer.command(5, &request(0x20, message, FIND, 1)).await;
        peer.value(5, PDataValueType::Data, false, b"\x08\0\x52\0CS\x06\0STUDY ").await;
        for part in keys.chunks(128 * 1024) {
            peer.value(5, PDataValueType::Data, false, part).await;
        }
        peer.value(5, PDataValueType::Data, true, &[]).await;
    }
    for message in 1..=12 {
        assert_eq!(peer.response().await, (message, 0x8020, 0xC000));
    }
    peer.release().await;
}

/// A rule of `dimse.peers`.
fn peer_rules(rules: &[String]) -> Vec<cuspid::config::PeerRule> {
    rules.iter().map(|rule| rule.clone().try_into().unwrap()).collect()
}

/// A port on loopback on which nobody listens.
async fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// The statuses of requests for the commitment of an instance that is not there.
async fn commitments(server: &Server, calling: &str, count: u16) -> Vec<u16> {
    let (mut peer, answer) = Peer::ask_as(calling, server.address).await;
    assert!(matches!(answer, Pdu::AssociationAC(_)), "{answer:?}");
    let element = |group: u16, number: u16, text: &str| {
        let value = even(text);
        let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
        bytes.extend(b"UI");
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(value);
        bytes
    };
    let item = [element(0x0008, 0x1150, CT), element(0x0008, 0x1155, "1.2.3.9")].concat();
    let mut statuses = Vec::new();
    for message in 1..=count {
        let mut information = element(0x0008, 0x1195, &format!("1.2.3.4.{message}"));
        information.extend(b"\x08\0\x99\x11SQ\0\0");
        information.extend((item.len() as u32 + 8).to_le_bytes());
        information.extend(b"\xFE\xFF\0\xE0");
        information.extend((item.len() as u32).to_le_bytes());
        information.extend(&item);
        let mut command = request(0x0130, message, COMMITMENT, 1);
        command[0].0 = 0x0003;
        command.push((0x1001, even(COMMITMENT_INSTANCE)));
        command.push((0x1008, vec![1, 0]));
        peer.command(11, &command).await;
        peer.value(11, PDataValueType::Data, true, &information).await;
        let (answered, _, status) = peer.response().await;
        assert_eq!(answered, message);
        statuses.push(status);
    }
    peer.release().await;
    statuses
}

#[tokio::test]
async fn a_peer_that_takes_no_reports_blocks_the_reports_of_no_other() {
    let rules = [
        format!("BROKEN@127.0.0.1:{}=commit", dead_port().await),
        format!("OTHER@127.0.0.1:{}=commit", dead_port().await),
    ];
    let server = start(|settings| {
        settings.peers = peer_rules(&rules);
        settings.max_waiting_reports = 20;
        settings.max_waiting_reports_per_peer = 16;
    })
    .await;
    let statuses = commitments(&server, "BROKEN", 30).await;
    assert_eq!(statuses[..16], [0; 16]);
    assert!(statuses[16..].iter().all(|status| *status == 0x0213), "{statuses:X?}");
    assert_eq!(commitments(&server, "OTHER", 2).await, [0, 0]);
}

/// A destination that counts its connections and answers nothing, or only the request for an association.
async fn silent_destination(accepts: bool) -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        let mut connections = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut peer = Peer { stream, received: BytesMut::new() };
            if accepts && let Some(Pdu::AssociationRQ(request)) = peer.receive().await {
                let result = |context: &PresentationContextProposed| PresentationContextResult {
                    id: context.id,
                    reason: PresentationContextResultReason::Acceptance,
                    transfer_syntax: context.transfer_syntaxes[0].clone(),
                };
                peer.send(&Pdu::AssociationAC(AssociationAC {
                    protocol_version: 1,
                    calling_ae_title: request.calling_ae_title.clone(),
                    called_ae_title: request.called_ae_title.clone(),
                    application_context_name: request.application_context_name.clone(),
                    presentation_contexts: request.presentation_contexts.iter().map(result).collect(),
                    user_variables: vec![UserVariableItem::MaxLength(16384)],
                }))
                .await;
            }
            connections.push(peer);
        }
    });
    (port, count)
}

/// Requests a C-MOVE of the study to a title.
async fn request_move(peer: &mut Peer, message: u16, destination: &str) {
    let mut command = request(0x21, message, MOVE, 1);
    command.insert(3, (0x0600, even(destination)));
    peer.command(9, &command).await;
    peer.value(9, PDataValueType::Data, true, &study_identifier()).await;
}

#[tokio::test]
async fn moves_wait_for_a_place_and_end_when_they_are_cancelled_or_the_peer_releases() {
    for accepts in [false, true] {
        let (port, count) = silent_destination(accepts).await;
        let rules = [format!("SILENT@127.0.0.1:{port}="), "*=store+move".to_owned()];
        let server = start_changed(2, |settings| {
            settings.peers = peer_rules(&rules);
            settings.max_outgoing_associations_per_destination = 2;
        })
        .await;
        let mut peers = Vec::new();
        for message in 1..=5 {
            let mut peer = Peer::associate(&server).await;
            request_move(&mut peer, message, "SILENT").await;
            peers.push((message, peer));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 2, "as many as there are places");
        let end = async |message: u16, mut peer: Peer| {
            let is_released = message.is_multiple_of(2);
            match is_released {
                true => peer.send(&Pdu::ReleaseRQ).await,
                false => peer.command(9, &cancel_request(message)).await,
            }
            let mut response = peer.response().await;
            while response.2 == 0xFF00 {
                response = peer.response().await;
            }
            assert_eq!(response, (message, 0x8021, 0xFE00), "accepts: {accepts}");
            // The Failed SOP Instance UID List may follow.
            while is_released && peer.receive().await.unwrap() != Pdu::ReleaseRP {}
        };
        let ended =
            futures_util::future::join_all(peers.into_iter().map(|(message, peer)| end(message, peer)));
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("all have ended in time");
    }
}

#[tokio::test]
async fn a_move_to_a_destination_that_is_not_there_names_what_failed() {
    let rules = [format!("DEAD@127.0.0.1:{}=", dead_port().await), "*=store+move".to_owned()];
    let server = start_changed(2, |settings| settings.peers = peer_rules(&rules)).await;
    let mut peer = Peer::associate(&server).await;
    request_move(&mut peer, 1, "DEAD").await;
    assert_eq!(peer.response().await, (1, 0x8021, 0xA702));
    let Some(Pdu::PData { data }) = peer.receive().await else { panic!("no list") };
    let list = String::from_utf8_lossy(&data[0].data).into_owned();
    assert!(list.contains("1.2.3.5.1\\1.2.3.5.2"), "{list}");
    peer.release().await;
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_raises_its_limit_of_open_files() {
    let data = tempfile::tempdir().unwrap();
    let script = "ulimit -Sn 300; exec \"$0\" serve --http 127.0.0.1:0 --dimse '' --data \"$1\"";
    let mut child = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_cuspid")])
        .arg(data.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let limits = || {
        let text = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("Max open files"))?.to_owned();
        let mut values = line["Max open files".len()..].split_whitespace().map(str::to_owned);
        Some((values.next()?, values.next()?))
    };
    // The limit is 300 before the server has begun.
    let is_raised = (0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        let is_server = std::fs::read_to_string(format!("/proc/{}/comm", child.id()))
            .is_ok_and(|name| name.trim() == "cuspid");
        is_server && limits().is_some_and(|(soft, hard)| soft == hard && soft != "300")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_raised);
}
