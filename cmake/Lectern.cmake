# How a room becomes a target. Every library gets an include root of its own that holds nothing but its own
# folder, so `#include "engine/kv/pool.h"` compiles only where engine_kv is a declared dependency.
include_guard(GLOBAL)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(LECTERN_CCACHE ccache)
if(LECTERN_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${LECTERN_CCACHE}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${LECTERN_CCACHE}")
endif()

set(LECTERN_SANITIZE "" CACHE STRING "Sanitizers for every target of ours: address,undefined or thread")
option(LECTERN_COVERAGE "Count which lines run, everywhere but in the kernels: make coverage" OFF)
option(LECTERN_WERROR "Warnings are errors" ON)
option(LECTERN_FUZZ "libFuzzer drives tests/fuzz, and every target of ours is instrumented for it (clang)" OFF)
if(LECTERN_FUZZ AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "LECTERN_FUZZ needs clang: use the preset `fuzz`, or -DCMAKE_CXX_COMPILER=clang++")
endif()

add_library(lectern_flags INTERFACE)
target_compile_options(lectern_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${LECTERN_WERROR}>>:-Werror>)
if(LECTERN_SANITIZE)
  # GCC finds uninitialized what its own instrumentation of std::function made.
  target_compile_options(lectern_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>)
  target_compile_options(lectern_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${LECTERN_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>)
  target_link_options(lectern_flags INTERFACE -fsanitize=${LECTERN_SANITIZE})
endif()

if(LECTERN_COVERAGE)
  # Atomic: counts of threads must not be lost, nor go below zero. In the loops of the kernels that would take hours.
  set(counted "$<NOT:$<BOOL:$<TARGET_PROPERTY:LECTERN_UNCOUNTED>>>")
  target_compile_options(lectern_flags INTERFACE
    "$<$<AND:$<COMPILE_LANGUAGE:CXX>,${counted}>:--coverage;-fprofile-update=atomic>"
    "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<NOT:${counted}>>:-O2>")
  target_link_options(lectern_flags INTERFACE --coverage)
endif()

if(LECTERN_FUZZ)
  target_compile_options(lectern_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# lectern_library(NAME x SOURCES a.cc ... HEADERS a.h ... DEPS y ... PRIVATE_DEPS z ... [CUDA_SOURCES a.cu ...])
#   CUDA_SOURCES are compiled where a CUDA toolkit was found (cmake/Cuda.cmake), which also defines LECTERN_CUDA for the library.
#   The folder is the one of the calling CMakeLists.txt. DEPS are needed by the headers, PRIVATE_DEPS by sources only.
function(lectern_library)
  cmake_parse_arguments(ARG "" "NAME" "SOURCES;HEADERS;DEPS;PRIVATE_DEPS;CUDA_SOURCES" ${ARGN})
  file(RELATIVE_PATH folder "${CMAKE_SOURCE_DIR}" "${CMAKE_CURRENT_SOURCE_DIR}")
  set(root "${CMAKE_BINARY_DIR}/include_roots/${ARG_NAME}")
  foreach(header IN LISTS ARG_HEADERS)
    get_filename_component(header_dir "${root}/${folder}/${header}" DIRECTORY)
    file(MAKE_DIRECTORY "${header_dir}")
    file(CREATE_LINK "${CMAKE_CURRENT_SOURCE_DIR}/${header}" "${root}/${folder}/${header}" SYMBOLIC)
  endforeach()
  if(ARG_SOURCES)
    add_library(${ARG_NAME} STATIC ${ARG_SOURCES})
    if(folder MATCHES "^(tests/)?kernels")
      set_target_properties(${ARG_NAME} PROPERTIES LECTERN_UNCOUNTED ON)
    endif()
    target_include_directories(${ARG_NAME} PUBLIC "${root}")
    target_link_libraries(${ARG_NAME} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS} lectern_flags)
    if(LECTERN_CUDA AND ARG_CUDA_SOURCES)
      target_sources(${ARG_NAME} PRIVATE ${ARG_CUDA_SOURCES})
      target_compile_definitions(${ARG_NAME} PUBLIC LECTERN_CUDA)
      target_link_libraries(${ARG_NAME} PUBLIC CUDA::cudart_static)
      target_compile_options(${ARG_NAME} PRIVATE
        $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${LECTERN_WERROR}>>:-Werror=all-warnings>)
    endif()
  else()
    add_library(${ARG_NAME} INTERFACE)
    target_include_directories(${ARG_NAME} INTERFACE "${root}")
    target_link_libraries(${ARG_NAME} INTERFACE ${ARG_DEPS})
  endif()
endfunction()

# lectern_binary(NAME x [OUTPUT file] SOURCES ... DEPS ...): an executable in ${CMAKE_BINARY_DIR}/bin.
function(lectern_binary)
  cmake_parse_arguments(ARG "" "NAME;OUTPUT" "SOURCES;DEPS" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_DEPS} lectern_flags)
  set_target_properties(${ARG_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
  if(ARG_OUTPUT)
    set_target_properties(${ARG_NAME} PROPERTIES OUTPUT_NAME "${ARG_OUTPUT}")
  endif()
endfunction()

# lectern_test(NAME x_test SOURCES ... DEPS ... [LABELS gpu slow ...] [ENVIRONMENT K=V ...] [TIMEOUT seconds]
#   [WHOLE]): a GoogleTest binary; one CTest entry per TEST unless WHOLE (one entry for the file, for tests that share
#   an expensive fixture). TIMEOUT only ends a hang.
function(lectern_test)
  cmake_parse_arguments(ARG "WHOLE" "NAME;TIMEOUT" "SOURCES;DEPS;LABELS;ENVIRONMENT" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main lectern_flags)
  target_compile_definitions(${ARG_NAME} PRIVATE LECTERN_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                                                 LECTERN_BINARY_DIR="${CMAKE_BINARY_DIR}")
  set_target_properties(${ARG_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  if(LECTERN_SANITIZE)
    math(EXPR ARG_TIMEOUT "4 * ${ARG_TIMEOUT}")
  endif()
  set(properties TIMEOUT ${ARG_TIMEOUT})
  if(ARG_LABELS)
    string(REPLACE ";" "\\\\;" labels "${ARG_LABELS}")
    list(APPEND properties LABELS "${labels}")
  endif()
  if(ARG_ENVIRONMENT)
    list(APPEND properties ENVIRONMENT "${ARG_ENVIRONMENT}")
  endif()
  if(ARG_WHOLE)
    add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME})
    set_tests_properties(${ARG_NAME} PROPERTIES ${properties})
    if(ARG_LABELS)
      set_property(TEST ${ARG_NAME} PROPERTY LABELS ${ARG_LABELS})
    endif()
  else()
    # The prefix keeps the tests of two programs apart that are made from the same file.
    gtest_discover_tests(${ARG_NAME} TEST_PREFIX "${ARG_NAME}/" DISCOVERY_MODE PRE_TEST PROPERTIES ${properties})
  endif()
endfunction()
