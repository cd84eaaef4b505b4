//! Every problem that this API answers with. A code never changes; the words around it may.

/// What is always true of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// The stable code: the last part of the type URI and of its page's address.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// In a few words.
    pub title: &'static str,
    /// What happened.
    pub explanation: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// When to try again, unless the occasion says otherwise, in seconds; none: trying again does not help.
    pub retry_after_s: Option<u32>,
}

macro_rules! problems {
    ($($variant:ident = $code:literal $status:literal $(retry $retry:literal)? {
        $title:literal $explanation:literal $remedy:literal
    })*) => {
        /// The problems.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// All of them, as they are listed.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// What is always true of it.
            pub fn kind(self) -> ProblemKind {
                match self {
                    $(Self::$variant => ProblemKind {
                        code: $code,
                        status: $status,
                        title: $title,
                        explanation: $explanation,
                        remedy: $remedy,
                        retry_after_s: retry_after!($($retry)?),
                    },)*
                }
            }
        }
    };
}

macro_rules! retry_after {
    () => {
        None
    };
    ($seconds:literal) => {
        Some($seconds)
    };
}

problems! {
    MalformedJson = "malformed-json" 400 {
        "The body is not JSON"
        "The body ends too early or holds something that JSON does not allow. Nothing was done."
        "Look at the line and column that the detail names. Text must be UTF-8, and quotes inside a text need a backslash."
    }
    InvalidParameter = "invalid-parameter" 400 {
        "A parameter cannot be used"
        "A parameter of the query, or a header, has a value that it may not have, or is not known to this endpoint."
        "The detail names the parameter. The documentation page lists what each endpoint takes."
    }
    HttpsExpected = "https-expected" 400 {
        "This address is reached over HTTPS"
        "The request came in the clear to an address where TLS is spoken. Nothing was read of it."
        "Send it to the same address with https:// instead of http://. A key that was sent in the clear may have been seen: have it replaced."
    }
    InvalidCursor = "invalid-cursor" 400 {
        "The cursor was not given out by this endpoint"
        "A cursor is an opaque text from the `next` of an earlier page of the same list. This one is not."
        "Begin without a cursor, and hand back each `next` exactly as it came."
    }
    InvalidIdempotencyKey = "invalid-idempotency-key" 400 {
        "The Idempotency-Key header cannot be used"
        "An idempotency key is 1 to 255 printable ASCII characters."
        "Use an id of your own for the request, such as a UUID."
    }
    KeyMissing = "key-missing" 401 {
        "No API key was given"
        "This endpoint needs an API key, and the request has no `Authorization: Bearer …` header, or it cannot be read."
        "Send the key that was shown when it was issued: `Authorization: Bearer kite_…`."
    }
    KeyInvalid = "key-invalid" 401 {
        "The API key is not valid"
        "The key is unknown, was revoked, or is not written completely. Which of these, nobody is told."
        "Check the key. A lost key cannot be shown again: have an operator issue a new one."
    }
    KeyExpired = "key-expired" 401 {
        "The API key has expired"
        "The key is genuine, and its time is over since the moment that the detail names."
        "Have an operator issue a new one. A tenant may have several keys at once: change to the new one before the old one expires."
    }
    SignatureInvalid = "signature-invalid" 401 {
        "The signature of the receipts is not valid"
        "Pushed receipts are signed as Standard Webhooks with the secret of the relay: the headers webhook-id, webhook-timestamp and webhook-signature. One is missing, the signature is of another body or secret, or the timestamp is more than five minutes away."
        "Compare the secret at both ends and the clocks of both machines. Nothing of the body was recorded; the relay may send it again."
    }
    NotPermitted = "not-permitted" 403 {
        "This key may not do that"
        "The key is genuine and its scopes, or its role, do not include what the endpoint does; or the endpoint is for tenants and the key an operator's, or the other way round. The detail says which."
        "Use a key that may: an operator can issue one with the scope or the role that the documentation of the endpoint names."
    }
    AddressNotAllowed = "address-not-allowed" 403 {
        "The key may not be used from this address"
        "The key is genuine and bound to networks; the request came from an address, which the detail names, that is in none of them."
        "Call from where the key is allowed, or have an operator issue one for this network. Behind a proxy, have the operator name it in `server.trusted_proxies`, so that the client's address counts."
    }
    NotFound = "not-found" 404 {
        "There is no such thing"
        "Nothing with this id belongs to the tenant of the key. What belongs to another tenant is answered in the same way."
        "Check the id, and that the key is of the right tenant."
    }
    NoSuchEndpoint = "no-such-endpoint" 404 {
        "There is no such endpoint"
        "The address of the request is none of this API's addresses."
        "The documentation page at /docs lists all addresses."
    }
    MethodNotAllowed = "method-not-allowed" 405 {
        "The endpoint does not know this method"
        "The address exists, but not with this HTTP method."
        "The header `allow` of the answer lists the methods; the documentation page at /docs explains them."
    }
    BodyTooSlow = "body-too-slow" 408 {
        "The body did not arrive in time"
        "The connection stood still, or delivered less than the whole body in the time allowed. Nothing was done."
        "Send the request again. For a slow connection, cut it into smaller requests."
    }
    IdempotencyInProgress = "idempotency-in-progress" 409 retry 1 {
        "A request with this idempotency key is being worked on"
        "Another request with the same key has begun and not ended. This one did nothing."
        "Wait a moment and send the same request again: it then gets the answer of the first."
    }
    Conflict = "conflict" 409 retry 1 {
        "Others were faster"
        "The same thing is being changed by others at this moment. Nothing was done."
        "Send the request again."
    }
    PausedByOperator = "paused-by-operator" 409 {
        "The operator has paused the sending"
        "The operator of the platform has paused this sending, and only the operator can let it go on."
        "Ask the operator. The sending says since when it is paused, and why. It can still be cancelled."
    }
    NotPossibleNow = "not-possible-now" 409 {
        "That is not possible as things stand"
        "The thing exists, but its state does not allow the request: it is in use, there already, or ended."
        "The detail says what stands in the way. Look at it again before deciding."
    }
    BodyTooLarge = "body-too-large" 413 {
        "The body is too large"
        "The body has more bytes than this endpoint takes; the detail names the limit. Nothing was done."
        "Cut the request into smaller ones."
    }
    UnsupportedMediaType = "unsupported-media-type" 415 {
        "The body is of another type than this endpoint takes"
        "The header `Content-Type` is missing or names something else than the detail does, or the header `Content-Encoding` says that the body is compressed."
        "Send `Content-Type: application/json`, or `text/csv` for an import, and the body as it is, without `Content-Encoding`."
    }
    InvalidBody = "invalid-body" 422 {
        "The body does not have the shape that the endpoint takes"
        "The body is JSON, but a field is missing, is not known, or holds something of another type. `errors` names its path. Nothing was done."
        "Compare the field with the documentation. Fields that are not known are refused, so that a misspelt one is never overlooked."
    }
    TooManyRecipients = "too-many-recipients" 422 {
        "The request names too many recipients"
        "One request may name a bounded number of recipients, those that its groups hold included; the detail names the limit. Nothing was accepted."
        "Cut the request into several, each with an idempotency key of its own."
    }
    RequestRefused = "request-refused" 422 {
        "The sending cannot be accepted as it is asked for"
        "Something that concerns all messages is wrong: the sender, the text, the schedule, the advertisement's marking. `errors` names the field. Nothing was accepted."
        "Correct the field and send again."
    }
    RowsRefused = "rows-refused" 422 {
        "Rows were refused"
        "Either the request was strict and at least one of its rows is wrong, or no row is left to be accepted. Nothing was accepted. `errors` names each row."
        "Correct the rows, or send without `strict` to have the good ones accepted."
    }
    ReceiptsNotUnderstood = "receipts-not-understood" 422 {
        "Receipts were not understood"
        "The call is genuine, and at least one of its receipts has a field that is missing, of the wrong type, or says a word or time that the protocol does not have. `errors` names row and field. The other receipts of the call are recorded; those named are kept as they came, for the operator of the platform, and nothing follows from them."
        "Correct what is named. Sending the same call again changes nothing; sending the corrected receipts in another call does."
    }
    IdempotencyKeyReused = "idempotency-key-reused" 422 {
        "The idempotency key belongs to another request"
        "The same key came before with another body. A key means one request, for ever. Nothing was done."
        "Use a new key for a new request; repeat a request with exactly the bytes of the first."
    }
    Refused = "refused" 422 {
        "The request cannot be carried out"
        "The values are of the right shape but break a rule; the detail and `errors` say which. Nothing was done."
        "Correct what is named and send again."
    }
    InvalidCsv = "invalid-csv" 422 {
        "The file cannot be read as CSV"
        "The file has no header row, names no known column, or is neither UTF-8 nor CP949. Nothing was imported."
        "The first row names the columns: name, phone, email, tags, and any others as custom fields. Save as UTF-8 or as Korean Excel does."
    }
    TooManyRequests = "too-many-requests" 429 retry 1 {
        "Too many requests in too short a time"
        "A tenant may come with so many requests, and with so many recipients, a second; one-time passwords count apart. Nothing of this request was done."
        "Come back after the seconds in the header `retry-after`: then there is room for this very request. Spread what is not urgent."
    }
    LimitReached = "limit-reached" 429 retry 5 {
        "The tenant's limit is reached"
        "The tenant has as many messages open, or scheduled for later, as the operator of the platform allows; the detail says which. Nothing of this request was accepted."
        "Come back when some of them are final, or due. The operator can see the limits and set others."
    }
    BacklogFull = "backlog-full" 429 retry 5 {
        "Too much is waiting already"
        "What was accepted before and is not handed over yet has reached its bound. Nothing of this request was accepted."
        "Come back after the seconds in the header `retry-after`. An idempotency key makes coming back safe."
    }
    TooManyAtOnce = "too-many-at-once" 429 retry 1 {
        "Too many requests are under way"
        "So many requests of this address, or so many bytes in requests of this tenant, relay or operator, are being worked on that no more are taken at once. Nothing of this request was accepted."
        "Wait for answers before sending more, or come back after the seconds in the header `retry-after`. An idempotency key makes coming back safe."
    }
    TooManyWrongKeys = "too-many-wrong-keys" 429 retry 60 {
        "Too many wrong keys or signatures"
        "More wrong keys or signatures came from this address in this minute than are answered one by one, and this request has another. A genuine one is served all the same."
        "Correct the key or the secret of the signature. Behind a proxy, have the operator name it in `server.trusted_proxies`, so that clients are told apart."
    }
    Internal = "internal" 500 {
        "Something went wrong on our side"
        "A defect. The request may or may not have been carried out."
        "If the request carried an idempotency key, send it again. Tell the operator the time and the address."
    }
    Busy = "busy" 503 retry 1 {
        "The service is busy"
        "More is being worked on, or more connections are open, than there is room for. Nothing of this request was accepted."
        "Come back after the seconds in the header `retry-after`. An idempotency key makes coming back safe."
    }
    AnswerLost = "answer-lost" 503 retry 1 {
        "It is not known whether the request was recorded"
        "The answer of the log was lost. The request may or may not have been carried out."
        "Send it again with the same idempotency key; without one, look first."
    }
    NoRoom = "no-room" 503 retry 30 {
        "There is no room for anything new"
        "The disk of the service is nearly full. What is left is kept for the results of what was accepted before. Nothing of this request was accepted."
        "Come back later. An idempotency key makes coming back safe. The operator makes room; with his key the page /readyz says how much is free."
    }
    Unavailable = "unavailable" 503 retry 5 {
        "The service cannot work at the moment"
        "The log or a read model cannot be reached. Nothing was accepted."
        "Come back later. The page /readyz says what is missing."
    }
    NotCaughtUp = "not-caught-up" 503 retry 1 {
        "The read side has not caught up yet"
        "The request depends on something written a moment ago, and the read model did not reach it in the time allowed. Nothing was done."
        "Send the request again, or without the header `kite-min-position` if older data will do."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_can_be_part_of_an_address() {
        let mut codes: Vec<_> = Code::ALL.iter().map(|code| code.kind().code).collect();
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Code::ALL.len());
    }

    #[test]
    fn every_problem_is_explained_and_has_a_remedy() {
        for code in Code::ALL {
            let kind = code.kind();
            assert!(kind.explanation.len() > 35 && kind.remedy.len() > 15, "{}", kind.code);
            assert!((400..600).contains(&kind.status), "{}", kind.code);
            let may_pass = matches!(kind.status, 409 | 429 | 503);
            assert!(may_pass || kind.retry_after_s.is_none(), "{}", kind.code);
        }
    }
}
