// std::format for compilers that have none yet (GCC before 13): mlx-c fills in plain {} only.
#include <version>
#ifndef __cpp_lib_format
#include <sstream>
#include <string_view>
namespace std {
template <class... Values>
string format(string_view pattern, const Values&... values) {
  ostringstream out;
  size_t from = 0;
  auto put = [&](const auto& value) {
    size_t at = pattern.find("{}", from);
    out << pattern.substr(from, at - from) << value;
    from = at + 2;
  };
  (put(values), ...);
  out << pattern.substr(from);
  return out.str();
}
} // namespace std
#endif
