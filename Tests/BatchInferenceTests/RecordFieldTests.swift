import BatchInference
import Foundation
import ModelTestSupport
import PDrop
import TestSupport
import Testing

/// Fields of records that are not read: errors if they change the answer, ignored if they are notes.
@Suite struct RecordFieldTests {
  let fixture: BatchFixture

  init() throws { fixture = try BatchFixture() }

  /// The error code of an answer to one line, its message and its identifier.
  private struct Answer: Decodable {
    struct Failure: Decodable {
      var code: String
      var message: String
    }

    var error: Failure?
    var questionID: String?
    var customID: String?

    enum CodingKeys: String, CodingKey {
      case error
      case questionID = "question_id"
      case customID = "custom_id"
    }
  }

  private func answers(_ lines: [String]) throws -> [Answer] {
    try fixture.run(lines, existingOutput: .overwrite)
    return try fixture.lines().map { try JSONDecoder().decode(Answer.self, from: Data($0.utf8)) }
  }

  private func question(_ field: String) -> String { #"{"question_id": "a", "text": "b", \#(field)}"# }

  private func completion(_ field: String) -> String {
    #"{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "b"}], \#(field)}}"#
  }

  private func expect(_ code: String?, _ lines: [String], sourceLocation: SourceLocation = #_sourceLocation) throws {
    for (line, answer) in zip(lines, try answers(lines)) {
      #expect(answer.error?.code == code, "\(line): \(answer)", sourceLocation: sourceLocation)
      #expect(answer.questionID ?? answer.customID == "a", "\(line)", sourceLocation: sourceLocation)
    }
  }

  @Test func `refuses an image in another spelling`() throws {
    let names = [
      "images", "Image", "IMAGE", "img", "imgs", "picture", "photo", "image_file", "image_path", "imagePath",
      "image-url", "image_url", "image_base64", "file_name", "filename", "fileName", "path", "video", "left_image",
    ]
    try expect("unsupported_option", names.map { question(#""\#($0)": "a.png""#) })
    try expect("unsupported_option", names.map { question(#""\#($0)": ["a.png"]"#) })
    try expect("unsupported_option", [question(#""image": "a.png", "images": ["b.png"]"#)])
    try expect(nil, names.flatMap { [question(#""\#($0)": null"#), question(#""\#($0)": []"#)] })
  }

  @Test func `refuses an image in a field of any name if there is no other`() throws {
    let values = [
      #""a.png""#, #""http://a/b.JPG?size=1""#, #""data:image/png;base64,aGk=""#, #"["x", {"y": "c/d.webp"}]"#,
      #""/9j/\#(String(repeating: "A", count: 80))""#,
    ]
    try expect("unsupported_option", values.map { question(#""coco_url": \#($0)"#) })
    try expect(
      "unsupported_option",
      [#""a.png?x=1""#, #"" a.png ""#, #""my folder/a b.png""#].map {
        question(#""coco_url": \#($0)"#)
      })
    let texts = [
      #""on a.png there is a dog""#, #""the dog is on a.png""#, #""www.a.org""#, #""png""#, #""a.png\nb""#,
      #""...bmp""#,
      "5",
    ]
    try expect(nil, texts.map { question(#""note": \#($0)"#) })
    let notes = [#""answer": "a.png""#, #""id": "0001.jpg""#, #""options": ["a.gif", "b.jpg"]"#, #""source": "a.jpg""#]
    try expect(nil, notes.map(question))
    let message = #""messages": [{"role": "user", "content": "#
    try expect(
      "unsupported_option",
      [
        #"{"custom_id": "a", "coco_url": "http://x/a.jpg", "body": {\#(message)"b"}]}}"#,
        #"{"custom_id": "a", "body": {\#(message)[{"type": "text", "text": "b", "coco_url": "a.png"}]}]}}"#,
      ])
  }

  @Test func `ignores notes about a LLaVA question`() throws {
    let notes = [
      #""category": "c""#, #""answer": "x", "answers": ["x", "y"], "label": 1"#, #""id": 7, "source": "coco""#,
      #""split": "val", "metadata": {"temperature": 1}"#, #""image": "a.png", "image_id": 5, "file_name": "a.png""#,
      #""temperature": null, "stop": [], "n": 1, "stream": false"#,
    ]
    try expect(nil, notes.map(question))
  }

  @Test func `refuses options and parts of a prompt in a LLaVA question`() throws {
    let fields = [
      #""temperature": 0.5"#, #""top_p": 0.9"#, #""max_tokens": 5"#, #""max_new_tokens": 5"#, #""maxTokens": 5"#,
      #""stop": ["x"]"#, #""n": 2"#, #""seed": 1"#, #""system": "Be brief.""#, #""system_prompt": "Be brief.""#,
      #""lambda": 0.5"#, #""image_mode": "pad""#, #""fastv_k": 2"#,
      #""recipe": "pdrop""#, #""stages": 3"#, #""preselect": "scope""#, #""pdrop": {"policy": "none"}"#,
      #""num_predict": 5"#, #""num_return_sequences": 2"#,
      #""conversations": [{"from": "human"}]"#, #""messages": [{}]"#, #""prompt": "c""#, #""stream": true"#,
    ]
    try expect("unsupported_option", fields.map(question))
  }

  @Test func `refuses fields of a body that are neither read nor harmless`() throws {
    let fields = [
      #""stop_token_ids": [13]"#, #""min_tokens": 5"#, #""chat_template": "x""#, #""add_generation_prompt": false"#,
      #""length_penalty": 2"#, #""bad_words": ["x"]"#, #""tools": [{}]"#, #""stream": true"#, #""images": ["a.png"]"#,
      #""never_heard_of": 1"#, #""skip_special_tokens": false"#, #""structured_outputs": {"grammar": "x"}"#,
    ]
    try expect("unsupported_option", fields.map(completion))
  }

  @Test func `reads the options of generation in a body`() throws {
    let fields = [
      #""n": 2, "stop": "x", "logprobs": true, "top_logprobs": 20, "logit_bias": {"5": -100, "1": 0.5}"#,
      #""stop": ["x", "yz"], "min_p": 0.1, "temperature": 1, "presence_penalty": -2, "frequency_penalty": 2.0"#,
      #""repetition_penalty": 1.1, "repeat_last_n": 64, "max_tokens": 3"#, #""repeat_penalty": 0.9, "max_tokens": 3"#,
      #""response_format": {"type": "json_object"}"#, #""guided_choice": ["red", "blue"]"#, #""guided_regex": "a+""#,
      #""response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "null"}}}"#,
      #""response_format": {"type": "json_object", "schema": {"const": 1}}, "guided_json": null"#,
      #""guided_json": "{\"type\": \"boolean\"}""#, #""structured_outputs": {"choice": ["a"]}"#,
      #""json_schema": {"type": "object"}, "max_tokens": 2"#,
    ]
    try expect(nil, fields.map(completion))
  }

  @Test func `refuses options that are out of range or do not fit each other`() throws {
    let fields = [
      #""n": 0"#, #""n": 129"#, #""stop": [1]"#, #""top_logprobs": 2"#, #""logprobs": 5"#,
      #""logprobs": true, "top_logprobs": 21"#,
      #""logit_bias": {"5": 101}"#, #""logit_bias": {"x": 1}"#, #""logit_bias": [1]"#, #""min_p": 1.5"#,
      #""presence_penalty": 3"#, #""repetition_penalty": 0"#, #""repeat_last_n": -2"#,
      #""response_format": {"type": "xml"}"#, #""response_format": {"type": "json_schema", "json_schema": {}}"#,
      #""guided_choice": []"#,
      #""guided_json": 1"#, #""guided_regex": "a", "guided_choice": ["a"]"#,
    ]
    try expect("bad_record", fields.map(completion))
  }

  @Test func `ignores fields of a body with null, their neutral value or no effect`() throws {
    let fields = [
      #""user": "u", "metadata": {"a": "b"}, "store": true, "stream": false, "stream_options": null"#,
      #""n": 1, "stop": null, "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}"#,
      #""logprobs": false, "top_logprobs": 0, "logit_bias": {}, "presence_penalty": 0.0, "repetition_penalty": 1.0"#,
      #""model": "m", "service_tier": "auto", "never_heard_of": null, "length_penalty": 1, "min_tokens": 0"#,
      #""seed": 1, "temperature": 0, "top_p": 1, "top_k": -1, "ignore_eos": false, "max_completion_tokens": 1"#,
    ]
    try expect(nil, fields.map(completion))
    try expect("bad_record", [completion(#""ignore_eos": "no""#), completion(#""top_p": 0"#)])
  }

  @Test func `refuses fields next to a body, and images in messages, that would be ignored`() throws {
    let message = #""messages": [{"role": "user", "content": "b""#
    try expect(
      "unsupported_option",
      [
        #"{"custom_id": "a", "temperature": 1, "body": {\#(message)}]}}"#,
        #"{"custom_id": "a", "image": "a.png", "body": {\#(message)}]}}"#,
        #"{"custom_id": "a", "body": {\#(message), "images": ["aGk="]}]}}"#,
        #"{"custom_id": "a", "body": {\#(message), "tool_calls": [{}]}]}}"#,
        #"{"custom_id": "a", "body": {"messages": [{"role": "user", "content": [{"type": "text", "text": "b", "#
          + #""image": "a.png"}]}]}}"#,
      ])
    try expect(nil, [#"{"custom_id": "a", "tag": "x", "body": {\#(message), "name": "n", "tool_calls": []}]}}"#])
  }

  @Test func `refuses a repeated key anywhere in a record`() throws {
    try expect("bad_record", [completion(#""top_p": 1, "top_p": 0.5"#), question(#""note": [{"x": 1, "x": 2}]"#)])
    // Composed and decomposed keys are different.
    try expect(nil, [question("\"\u{E9}\": 1, \"e\u{301}\": 2")])
  }

  @Test func `keeps an identifier that is read before a fault`() throws {
    let lines = [
      #"{"question_id": "a", "text": "lone \ud83d"}"#, #"{"question_id": "a", "text": "cut"#,
      #"{"question_id": "a", "text": "b"},"#, #"{"custom_id": "a", "body": {"messages": [}}"#,
      #"{"question_id": "a", "note": 1e999}"#, #"{"text": "b", "question_id": "a" "image": "c"}"#,
    ]
    try expect("bad_record", lines)
    let lost = [#"{"text": "lone \ud83d", "question_id": "a"}"#, #"{"question_id": "a", "question_id": "b", "text": "#]
    for answer in try answers(lost) { #expect(answer.error?.code == "bad_record" && answer.questionID == nil) }
    // The last digits of a number may be missing.
    try fixture.run([#"{"question_id": 12"#, #"{"question_id": 12,"#], existingOutput: .overwrite)
    #expect(try fixture.lines().map { $0.contains(#""question_id":12"#) } == [false, true])
  }

  @Test func `quotes a short part of a hostile value`() throws {
    let long = String(repeating: "x\\u001b", count: 5000)
    let lines = [
      question(#""image\#(long)": "a.png""#), question(#""\#(long)_image": "a.png""#), completion(#""\#(long)": 1"#),
      completion(#""temperature": "\#(long)""#), completion(#""\#(long)": null, "\#(long)": null"#),
      #"{"custom_id": "a", "method": "\#(long)"}"#, #"{"custom_id": "a", "url": "\#(long)"}"#,
      question(#""image": "https://\#(long)""#), question(#""image": "\#(long)""#), question(#""b": "\#(long)"#),
      #"{"custom_id": "a", "body": {"messages": [{"role": "user", "content": "b", "\#(long)": 1}]}}"#,
    ]
    for (line, answer) in zip(lines, try answers(lines)) {
      guard let message = answer.error?.message else { continue }
      #expect(message.count < 400 && !message.contains("\u{1B}"), "\(line.prefix(60)): \(message)")
    }
    let path = String(repeating: "p", count: 300)
    let failure = RecordFailure(.imageMissing, "\(path): no such file")
    #expect(failure.quoting([.file(path)]).problem.count < 100)
  }
}
