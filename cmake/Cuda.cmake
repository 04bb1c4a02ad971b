# CUDA where a toolkit is found: on the PATH, at /usr/local/cuda, or fetched by scripts/setup. Without one everything else
# builds. Kernels are made for sm_90a, since WGMMA exists in no other target; a library whose kernels run on other GPUs too
# says so (CUDA_ARCHITECTURES ${LECTERN_CUDA_PORTABLE}) and carries machine code and PTX of sm_80 besides.
include_guard(GLOBAL)

find_program(LECTERN_NVCC nvcc HINTS /usr/local/cuda/bin ${CMAKE_SOURCE_DIR}/.cuda/toolkit/bin)
if(LECTERN_NVCC OR DEFINED ENV{CUDACXX})
  set(found ON)
else()
  set(found OFF)
endif()
set(LECTERN_CUDA_PORTABLE 80 90a-real)
option(LECTERN_CUDA "Compile CUDA sources (default: if a CUDA compiler is found)" ${found})
if(LECTERN_CUDA)
  if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(CMAKE_CUDA_COMPILER "${LECTERN_NVCC}")
  endif()
  set(CMAKE_CUDA_ARCHITECTURES 90a-real)
  # CMake 3.25 does not know that nvcc 13 speaks C++20: say it to the compiler, and ask nothing of CMake.
  set(CMAKE_CUDA_STANDARD_REQUIRED OFF)
  unset(CMAKE_CUDA_STANDARD)
  # Asserts as in the C++ of the same build.
  set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O3 -lineinfo" CACHE STRING "")
  enable_language(CUDA)
  string(APPEND CMAKE_CUDA_FLAGS " -std=c++20")
  find_package(CUDAToolkit REQUIRED)
else()
  message(STATUS "CUDA sources are left out")
endif()
