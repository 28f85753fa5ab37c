package import BatchInference
import PDrop
package import Storage

/// An error of OpenAI's API: an HTTP status and the members of its `error` object.
package struct APIError: Error, Equatable, Sendable {
  /// HTTP status.
  package var status: Int
  package var message: String
  package var type: String
  package var code: String?
  /// The field of the request that is wrong.
  package var parameter: String?
  /// Seconds after which the request may be sent again.
  package var retryAfter: Int?

  package init(
    _ status: Int, _ message: String, type: String, code: String? = nil, parameter: String? = nil,
    retryAfter: Int? = nil
  ) {
    (self.status, self.message, self.type, self.code) = (status, message, type, code)
    (self.parameter, self.retryAfter) = (parameter, retryAfter)
  }

  package static func invalid(_ message: String, parameter: String? = nil, code: String? = nil) -> APIError {
    APIError(400, message, type: "invalid_request_error", code: code, parameter: parameter)
  }

  package static func notFound(_ message: String) -> APIError {
    APIError(404, message, type: "not_found_error", code: "not_found")
  }

  package static let loading = APIError(
    503, "the model is being loaded; try again in a moment", type: "unavailable_error", code: "loading", retryAfter: 1)
  package static let stopping = APIError(
    503, "the server is stopping", type: "unavailable_error", code: "stopping", retryAfter: 5)
  package static let unauthorized = APIError(
    401, "the API key is missing or wrong; expected the header Authorization: Bearer KEY", type: "authentication_error",
    code: "invalid_api_key")

  package static func tooLarge(limit: Int) -> APIError {
    APIError(
      413, "the body of the request is larger than the limit of \(text(bytes: limit)) (--body-limit)",
      type: "invalid_request_error", code: "request_too_large")
  }

  private static func text(bytes: Int) -> String {
    bytes.isMultiple(of: 1 << 20)
      ? "\(bytes >> 20) MiB" : bytes.isMultiple(of: 1 << 10) ? "\(bytes >> 10) KiB" : "\(bytes) bytes"
  }

  package static func timeout(seconds: Int) -> APIError {
    APIError(
      504, "the request took longer than \(seconds) s (--timeout)", type: "timeout_error", code: "timeout")
  }

  /// The error for a failed request.
  ///
  /// - Parameter form: The field that gives the form of the answer.
  package init(_ failure: RecordFailure, form: String? = nil) {
    let message = failure.message { $0.requestField }
    switch failure.reason {
    case .internalError, .notANumber: self.init(500, message, type: "server_error", code: failure.reason.rawValue)
    case .promptTooLong:
      self.init(400, message, type: "invalid_request_error", code: "context_length_exceeded", parameter: "messages")
    case .imageRemote:
      self.init(400, message, type: "invalid_request_error", code: "image_refused", parameter: "messages")
    case .imageMissing, .imageUnreadable, .imageDamaged, .imageUnsupported, .imageTooLarge:
      self.init(
        400, message, type: "invalid_request_error", code: failure.reason.rawValue, parameter: "messages")
    case .badRecord:
      self.init(
        400, message, type: "invalid_request_error", code: "invalid_value",
        parameter: failure.concernsForm ? form : "messages")
    case .targetUnreachable:
      self.init(400, message, type: "invalid_request_error", code: failure.reason.rawValue, parameter: "pdrop")
    case .unsupportedOption, .outOfMemory:
      self.init(400, message, type: "invalid_request_error", code: failure.reason.rawValue)
    }
  }

  /// The error for a request that the service does not accept.
  package init(_ refusal: InferenceService.Refusal) {
    switch refusal {
    case .stopping: self = .stopping
    case .full(let limit, let retryAfter):
      self.init(
        429, "the queue is full (--queue \(limit)); try again in \(retryAfter) s",
        type: "rate_limit_error", code: "queue_full", retryAfter: retryAfter)
    }
  }

  /// `{"error": {...}}`.
  package var json: JSONValue {
    [
      "error": [
        "message": .string(message), "type": .string(type), "param": parameter.map(JSONValue.string) ?? .null,
        "code": code.map(JSONValue.string) ?? .null,
      ]
    ]
  }
}

extension Remedy {
  /// The change by a client of the server, in the fields of a request.
  fileprivate var requestField: String {
    switch self {
    case .addImage: "add a part of type image_url"
    case .removePlaceholder: "remove <image> from the text"
    case .raiseContextLength: "restart the server with a larger --ctx-size"
    case .mmproj: "start the server with --mmproj"
    case .maxTokens(let count): "set max_tokens to \(count) or less"
    case .raiseMaxTokens(let count): "set max_tokens to \(count) or more"
    case .pyramidDrop(nil): "use the policy pyramiddrop"
    case .pyramidDrop(let lambda?): "use the policy pyramiddrop with \"lambda\": \(lambda)"
    case .omitSystemPrompt: "leave out the message with the role system"
    default: description
    }
  }
}
