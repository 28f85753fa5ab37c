internal import ModelFormats

extension RecordParser {
  /// The request of a line of LLaVA's question files.
  ///
  /// `image` is a path, a data URL or a list of them, and may be missing.
  func question(_ value: JSONValue, _ record: inout BatchRecord) throws -> Request {
    try Self.identify(value, by: "question_id", &record)
    guard let text = value["text"].string else { throw RecordFailure(.badRecord, "text: expected the question") }
    record.question = text
    record.category = value["category"].string
    var request = base
    request.pictures = try references(value["image"]).map { try Request.Picture(reference: $0, folder: folder) }
    request.prompt = .messages([ChatMessage(question: text, pictureCount: request.pictures.count)])
    return request
  }

  private func references(_ value: JSONValue) throws(RecordFailure) -> [String] {
    switch value {
    case .null: return []
    case .string(let reference): return [reference]
    case .array(let values):
      let references = values.compactMap(\.string)
      if references.count == values.count { return references }
    default: break
    }
    throw RecordFailure(.badRecord, "image: expected a path or a list of paths")
  }
}
