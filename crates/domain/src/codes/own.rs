//! The words that Kite itself gives as a reason when no relay gave one.

/// Word, Korean, English.
const WORDS: [(&str, &str, &str); 22] = [
    ("cancelled", "발송 취소됨", "cancelled before it was handed over"),
    ("lifetime", "유효 시간 경과", "its lifetime ended before it was handed over"),
    ("opt_out", "수신거부한 수신자", "the recipient refuses advertisements"),
    ("sender_not_requested", "등록 요청되지 않은 발신번호", "nobody has asked for the sender"),
    ("sender_requested", "승인 대기 중인 발신번호", "the sender waits for the operator's approval"),
    ("sender_refused", "등록이 거절된 발신번호", "the operator has refused the sender"),
    ("sender_expired", "승인 기간이 끝난 발신번호", "the sender's approval is over"),
    ("sender_withdrawn", "철회된 발신번호", "the sender was withdrawn"),
    ("night_window", "야간 광고 전송 제한 시간", "advertisements may not go out at night"),
    ("no_receipt", "기한 내 전송결과 없음", "no receipt came in time"),
    ("no_answer", "중계사 응답 없음", "the relay's answer was lost"),
    ("connection_lost", "전달 중 연결 끊김", "the connection ended at this message"),
    ("relay_suspended", "중계사 사용 중지", "the relay was taken out of use"),
    ("relay_unattended", "중계사를 맡은 작업자 없음", "nobody worked for the relay"),
    ("breaker_tripped", "중계사 차단됨", "the relay's circuit breaker had tripped"),
    ("kite_text", "본문을 완성할 수 없음", "the text cannot be filled in"),
    ("kite_no_sender", "채널의 발신번호 없음", "the sending has no sender for the channel"),
    ("kite_no_address", "채널의 수신 주소 없음", "the recipient has no address for the channel"),
    ("none", "중계사가 코드를 주지 않음", "the relay gave no code"),
    ("http_400", "중계사가 요청을 거부함", "the relay objects to the call"),
    ("http_413", "중계사가 요청이 크다고 거부함", "the relay finds the call too large"),
    ("http_422", "중계사가 요청을 거부함", "the relay objects to the call"),
];

/// The meaning of one of Kite's own words: one phrase in Korean, one in English. None: it is not such a word.
pub fn own_reason(word: &str) -> Option<(&'static str, &'static str)> {
    WORDS.iter().find(|(own, ..)| *own == word).map(|(_, ko, en)| (*ko, *en))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::CodeDictionary;

    /// Kite's own words may be said about any relay, so no relay may mean something else by them.
    #[test]
    fn no_word_of_kite_is_a_code_of_a_relay() {
        for (word, ko, en) in WORDS {
            assert_eq!(own_reason(word), Some((ko, en)));
            assert!(!ko.is_empty() && !en.is_empty(), "{word}");
            for name in CodeDictionary::names() {
                assert!(
                    CodeDictionary::named(name).is_some_and(|dictionary| dictionary.find(word).is_none())
                );
            }
        }
        assert_eq!(own_reason("4000"), None);
    }
}
