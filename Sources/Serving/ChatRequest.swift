import BatchInference
package import PDrop
package import Storage

/// The body of a request to `/v1/chat/completions`.
package struct ChatRequest: Sendable {
  /// The maximum number of JSON values in the body of a request, which bounds the memory of the parsed body.
  package static let valueLimit = 1 << 18

  package let request: Request
  /// Whether the answer is sent while it is generated.
  package let streams: Bool
  /// Whether a stream ends with the usage.
  package let includesUsage: Bool
  /// Whether a stream begins with the progress of the prompt.
  package let returnsProgress: Bool
  /// Whether the answer lists the visual tokens that each drop kept.
  package let returnsKept: Bool
  /// Whether the answer has the kept-token maps of the images.
  package let returnsMaps: Bool
  /// Bytes of the images.
  package let imageByteCount: Int
  /// The field that gives the form of the answer; `nil` for any text.
  let formField: String?

  /// Reads a body.
  ///
  /// - Parameters:
  ///   - body: The parsed body.
  ///   - base: Policy and options where the body has none.
  ///   - access: The images that may be read.
  ///   - layerCount: Number of decoder layers, which a schedule must fit.
  ///   - fetched: The bytes of images on a network, by their URLs.
  /// - Throws: `APIError` for values that cannot be honoured; fields that no known API has are ignored.
  package init(
    _ body: JSONValue, like base: Request, _ access: ImageAccess, layerCount: Int, fetched: [String: [UInt8]] = [:]
  ) throws(APIError) {
    try Self.checkIsObject(body)
    let streamOptions = body["stream_options"]
    guard streamOptions.isNull || streamOptions.members != nil else {
      throw .invalid("stream_options: expected an object, found \(streamOptions.excerpt)", parameter: "stream_options")
    }
    streams = try Self.flag(body, "stream")
    includesUsage = try Self.flag(streamOptions, "include_usage", in: "stream_options.")
    returnsProgress = try Self.flag(body, "return_progress")
    formField = [
      "response_format", "json_schema", "guided_json", "guided_choice", "guided_regex", "structured_outputs",
    ].first { !body[$0].isNull }
    let dropping = body["pdrop"]
    guard dropping.isNull || dropping.members != nil else {
      throw .invalid("pdrop: expected an object, found \(dropping.excerpt)", parameter: "pdrop")
    }
    returnsKept = try Self.flag(dropping, "kept", in: "pdrop.")
    returnsMaps = try Self.flag(dropping, "maps", in: "pdrop.")

    guard !body["messages"].isNull else { throw .invalid("messages: missing", parameter: "messages") }
    guard body["messages"].array?.isEmpty == false else {
      throw .invalid("messages: expected a list of messages with one or more", parameter: "messages")
    }
    let conversation: Conversation
    var (imageCount, imageBytes) = (0, 0)
    do {
      conversation = try Conversation(body["messages"]) { reference throws(ImageReferenceError) in
        imageCount += 1
        let image = try access.image(reference, number: imageCount, fetched: fetched)
        if case .encoded(let bytes, _) = image { imageBytes += bytes.count }
        guard imageBytes <= access.byteLimit else {
          throw .refused(
            reference: reference, reason: "the images of a request have at most \(access.byteLimit >> 20) MiB together")
        }
        return image
      }
    } catch {
      var failure = APIError(RecordFailure(error))
      failure.parameter = "messages"
      throw failure
    }
    imageByteCount = imageBytes
    var request = base
    request.prompt = .messages(conversation.messages)
    request.images = conversation.images
    do throws(RecordFailure) {
      request.options = try CompletionOptions(body: body.without("stream"), place: nil)
        .options(like: base.options, ignoresUnknown: true)
    } catch {
      var failure = APIError(error)
      failure.parameter = Self.parameter(of: failure.message, in: body)
      throw failure
    }
    if let policy = try PolicyFields(dropping).policy(seed: request.options.seed, layerCount: layerCount) {
      request.policy = policy
    }
    request.needsPixels = returnsMaps
    self.request = request
  }

  /// The URLs of images on a network, each once.
  package static func remoteImages(_ body: JSONValue) -> [String] {
    var urls: [String] = []
    var found: Set<String> = []
    for message in body["messages"].array ?? [] {
      for part in message["content"].array ?? [] {
        let url = part["image_url"].string ?? part["image_url"]["url"].string ?? part["image"].string
        if let url, ImageAccess.isRemote(url), found.insert(url).inserted { urls.append(url) }
      }
    }
    return urls
  }

  /// - Throws: `APIError` for a body that is not an object.
  static func checkIsObject(_ body: JSONValue) throws(APIError) {
    guard body.members != nil else { throw .invalid("expected a JSON object, found \(body.excerpt)") }
  }

  /// The value of a switch, false if it is missing.
  static func flag(_ object: JSONValue, _ key: String, in place: String = "") throws(APIError) -> Bool {
    if object[key].isNull { return false }
    guard let value = object[key].bool else {
      throw .invalid("\(place)\(key): expected true or false, found \(object[key].excerpt)", parameter: place + key)
    }
    return value
  }

  /// The field that a message is about: at its beginning, or as in `the field "tools" is not supported`.
  private static func parameter(of message: String, in body: JSONValue) -> String? {
    let start = String(message.prefix { $0 != ":" && $0 != "." })
    if body.members?.contains(where: { $0.key == start }) == true { return start }
    return body.members?.first { message.hasPrefix("the field \($0.key.excerpt) ") }?.key
  }
}

extension JSONValue {
  /// The object without a member.
  fileprivate func without(_ key: String) -> JSONValue {
    .object((members ?? []).filter { $0.key != key })
  }
}
