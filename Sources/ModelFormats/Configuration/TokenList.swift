/// One token or several, as `eos_token_id` is written.
package struct TokenList: Decodable, Sendable, Equatable {
  package var tokens: Set<Int>

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let one = try? container.decode(Int.self) {
      tokens = [one]
    } else {
      tokens = Set(try container.decode([Int].self))
    }
  }
}
