/// LLaVA's question files: `{"question_id", "image", "text"[, "category"]}` on each line.
enum QuestionFile {
  /// - Parameters:
  ///   - name: The file, in the folder of all benchmarks.
  ///   - pictures: Where its relative paths begin, in that folder.
  static func read(
    _ name: String, pictures: String, in data: DataFolder, _ body: (Question) throws -> Void
  ) throws {
    try DataRecord.readLines(data.path(name)) { record in
      let picture: Question.Picture = record.has("image") ? .file(pictures + "/" + (try record.text("image"))) : .none
      try body(
        Question(
          id: record.identifier("question_id"), picture: picture, text: record.text("text"),
          category: record.optionalText("category")))
    }
  }
}
