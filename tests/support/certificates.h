// A certificate authority of a test's own.
#pragma once

#include <map>
#include <string>

namespace lectern::testing {

class Certificates {
 public:
  // Keeps its files in `directory`. Ends the test program if it cannot.
  explicit Certificates(const std::string& directory);

  const std::string& ca() const { return ca_.certificate; }

  struct Files {
    std::string certificate;
    std::string key;
  };
  // A certificate for 127.0.0.1 and localhost, of `name`; the same name gives the same one.
  Files Issue(const std::string& name) const;
  Files IssueExpired(const std::string& name) const;

 private:
  Files Make(const std::string& name, const Files* issuer, long seconds) const;

  const std::string directory_;
  Files ca_;
};

}  // namespace lectern::testing
